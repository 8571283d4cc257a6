package filter

import "strings"

// affixTree is a radix tree of prefixes, or of suffixes when reversed: its
// labels are then read from the end of the text.
type affixTree struct {
	root     affixNode
	reversed bool
	size     int // buckets that are in use
}

type affixNode struct {
	label    string // what the edge to this node adds, in the order of reading
	children []*affixNode
	bucket   *bucket // nil when no filter ends here
}

// reverse turns the bytes of a string around.
func reverse(s string) string {
	b := make([]byte, len(s))
	for i := range len(s) {
		b[len(s)-1-i] = s[i]
	}
	return string(b)
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func (n *affixNode) child(c byte) (int, *affixNode) {
	for i, child := range n.children {
		if child.label[0] == c {
			return i, child
		}
	}
	return -1, nil
}

// bucket gives the bucket of an affix; it makes one where there is none.
func (t *affixTree) bucket(affix string) *bucket {
	if t.reversed {
		affix = reverse(affix)
	}
	n := &t.root
	for affix != "" {
		_, child := n.child(affix[0])
		if child == nil {
			child = &affixNode{label: strings.Clone(affix)}
			n.children = append(n.children, child)
			n = child
			break
		}
		common := commonPrefix(affix, child.label)
		if common < len(child.label) {
			rest := &affixNode{label: child.label[common:], children: child.children, bucket: child.bucket}
			child.label, child.children, child.bucket = child.label[:common], []*affixNode{rest}, nil
		}
		n, affix = child, affix[common:]
	}
	if n.bucket == nil {
		n.bucket = &bucket{}
		t.size++
	}
	return n.bucket
}

// find gives the bucket of an affix, nil where there is none.
func (t *affixTree) find(affix string) *bucket {
	if t.reversed {
		affix = reverse(affix)
	}
	n := &t.root
	for affix != "" {
		_, child := n.child(affix[0])
		if child == nil || !strings.HasPrefix(affix, child.label) {
			return nil
		}
		n, affix = child, affix[len(child.label):]
	}
	return n.bucket
}

// remove takes out the bucket of an affix, and the nodes that only led there.
func (t *affixTree) remove(affix string) {
	if t.reversed {
		affix = reverse(affix)
	}
	var parent *affixNode
	n, at := &t.root, 0
	for affix != "" {
		i, child := n.child(affix[0])
		if child == nil || !strings.HasPrefix(affix, child.label) {
			return
		}
		parent, n, at, affix = n, child, i, affix[len(child.label):]
	}
	if n.bucket == nil {
		return
	}
	n.bucket = nil
	t.size--
	if parent == nil {
		return
	}
	if len(n.children) == 0 {
		last := len(parent.children) - 1
		parent.children[at] = parent.children[last]
		parent.children = parent.children[:last:last]
		n = parent
	}
	if n != &t.root && n.bucket == nil && len(n.children) == 1 {
		only := n.children[0]
		n.label, n.children, n.bucket = n.label+only.label, only.children, only.bucket
	}
}

// collect appends the bucket of every affix of text.
func (t *affixTree) collect(text string, to []*bucket) []*bucket {
	n := &t.root
	for {
		if n.bucket != nil {
			to = append(to, n.bucket)
		}
		if text == "" {
			return to
		}
		next := text[0]
		if t.reversed {
			next = text[len(text)-1]
		}
		_, n = n.child(next)
		if n == nil || !t.leads(text, n.label) {
			return to
		}
		if t.reversed {
			text = text[:len(text)-len(n.label)]
		} else {
			text = text[len(n.label):]
		}
	}
}

// leads says whether text goes on with a label, in the order of reading.
func (t *affixTree) leads(text, label string) bool {
	if !t.reversed {
		return strings.HasPrefix(text, label)
	}
	if len(text) < len(label) {
		return false
	}
	for i := range len(label) {
		if text[len(text)-1-i] != label[i] {
			return false
		}
	}
	return true
}
