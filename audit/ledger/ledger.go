// Package ledger makes a Merkle log of an audit trail, so that whoever changes,
// removes or adds an entry afterwards is found out by what was signed before.
//
// Each entry is a leaf. Checkpoints, which are signed, say how many leaves there
// are and what their hash is; they are kept where those who can change the
// database cannot change them. The package knows no database.
//
// https://www.rfc-editor.org/rfc/rfc6962#section-2.1
// https://pkg.go.dev/golang.org/x/mod/sumdb/tlog
package ledger

// Origin returns the name of the log of a tenant. Its checkpoints begin with
// it, so that none passes for one of another tenant.
func Origin(slug string) string { return "cordon/" + slug }

// Platform stands for the slug in the name of the log of what belongs to no
// tenant. No tenant can have it.
const Platform = "_platform"
