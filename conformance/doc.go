// Package conformance proves what Cordon promises, against the program as it
// is shipped: it starts the server, attacks it over HTTP and in its database,
// and looks for what must not be there.
//
// Its tests come with an equal number of faults: each fault, put into the
// program or the database, must turn a named test red. `make breakout-mutants` puts in
// those that need another program.
//
// What needs nothing but HTTP is in package breakout, as data: outside_test.go
// makes those attacks, with conditions that see more than a client does.
//
// Four things must hold before anything is merged: isolation (routing_test.go,
// access_test.go, cursor_test.go, database_test.go), region pinning
// (fhir/rest/region_test.go), policy enforcement (compartment_test.go,
// stranger_test.go, and store's differential test), and audit completeness
// (condition C3 of every line, audit_test.go in faults). GOV-01 GOV-03 GOV-04
package conformance
