// Package faults proves that Cordon loses nothing when what it runs on fails:
// it kills the program and its PostgreSQL, stops them, cuts their connection,
// and then holds every answer that a client got against what is stored and
// against the audit trail.
//
// A ledger has what clients sent and what they were answered. What is found
// afterwards must be neither
//
//	lost         answered as stored, and not there
//	torn         a part of a transaction
//	duplicated   stored twice by one request, or by its repetition
//	resurrected  there again, or there although it was refused
//	unaudited    done, and not in the audit trail
//
// and it may be late: stored, though the client got no answer.
//
// Flags, behind -args: -rounds makes each fault happen more often, and
// -server-race builds the server with the race detector.
package faults
