package harness

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// PlaceOf asks the registry which number the tenant has, and where its rows are.
func PlaceOf(ctx context.Context, registry *pgx.Conn, slug string) (number int32, database, schema string, err error) {
	var mode string
	err = registry.QueryRow(ctx, `SELECT id, schema, mode FROM registry.tenant WHERE slug = $1`, slug).Scan(&number, &schema, &mode)
	if err != nil {
		return 0, "", "", fmt.Errorf("looking up %s: %w", slug, err)
	}
	if mode == "database" {
		return number, fmt.Sprintf("cordon_t%d", number), schema, nil
	}
	return number, "cordon", schema, nil
}
