// Package conformance proves what Cordon promises, against the program as it
// is shipped: it starts the server, attacks it over HTTP and in its database,
// and looks for what must not be there.
//
// Its tests come with an equal number of faults: each fault, put into the
// program or the database, must turn a named test red. `make mutants` puts in
// those that need another program.
package conformance
