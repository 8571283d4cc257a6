package dispatcher

// NewHTTPSender xx
func NewHTTPSender(o HTTPOptions) Sender { return nil }
