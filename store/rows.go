package store

import (
	"context"
	"database/sql"
)

// asker is what a query is put to: a connection, a pool or a transaction.
type asker interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// collect returns what scan makes of each row of a query; nil if there is none.
func collect[T any](ctx context.Context, in asker, scan func(func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := in.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// rowsOf returns the rows of a query, each read into where fields says.
func rowsOf[T any](ctx context.Context, in asker, query string, args []any, fields func(*T) []any) ([]T, error) {
	return collect(ctx, in, func(scan func(...any) error) (one T, err error) {
		return one, scan(fields(&one)...)
	}, query, args...)
}
