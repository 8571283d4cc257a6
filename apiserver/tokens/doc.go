// Package tokens makes and checks the bearer tokens of ServiceAccounts: JSON
// Web Tokens with Kubernetes' claims, signed by ECDSA over P-256 (ES256). A
// token holds the UID of its ServiceAccount, and is good as long as that one
// exists and its own time has not passed. No token is kept.
package tokens
