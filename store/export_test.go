package store

import "context"

// NewIndexer returns an Indexer that was asked for the requests.
func NewIndexer(db *DB, requests map[int32]IndexRequest, part int) *Indexer {
	return &Indexer{DB: db, Part: part, requests: requests}
}

// SetFew makes searches of more than n matches go along an index to sort them.
func (db *DB) SetFew(n int) { db.few = n }

// Purge removes what is of no more use, as servers do each minute.
func (r *Registry) Purge(ctx context.Context) { r.purge(ctx) }
