package store

// NewIndexer returns an Indexer that was asked for the requests.
func NewIndexer(db *DB, requests map[int32]IndexRequest, part int) *Indexer {
	return &Indexer{DB: db, Part: part, requests: requests}
}
