// Package evidence is what Cordon shows who does not trust it: where the data of
// a tenant lives, who can reach it, how each access is proven, and which test
// proves which requirement. The control plane states the facts as they are in its
// databases at that moment and signs them; a pack of them is a directory that is
// verified offline, with the public key of the tenant's audit log alone.
package evidence
