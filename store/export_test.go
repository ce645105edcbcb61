package store

import "github.com/cordon-fhir/cordon/tenant"

// NewIndexer returns an Indexer that was asked for the requests.
func NewIndexer(db *DB, requests map[tenant.ID]IndexRequest, part int) *Indexer {
	return &Indexer{DB: db, Part: part, requests: requests}
}
