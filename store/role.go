package store

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
)

// makeRole makes a role that can do nothing by itself: it logs in if it has a
// secret, and does not act by itself with the rights of roles granted to it.
// A role that is there and can do more is refused. The name is one of ours.
func makeRole(ctx context.Context, conn *sql.Conn, name, secret string) error {
	found, err := exists(ctx, conn, `SELECT FROM pg_roles WHERE rolname = $1`, name)
	if err != nil {
		return err
	}
	if !found {
		if err := exec(ctx, conn, `CREATE ROLE `+name+
			` NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS`); err != nil {
			return err
		}
	}
	unsafe, err := exists(ctx, conn, `
		SELECT FROM pg_roles
		WHERE  rolname = $1
		AND    (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR rolinherit)`, name)
	if err != nil {
		return err
	}
	if unsafe {
		return errors.New("the role is there and has rights that it must not have")
	}
	if secret == "" {
		return nil
	}
	v, err := verifier(secret)
	if err != nil {
		return err
	}
	return exec(ctx, conn,
		`ALTER ROLE `+name+` LOGIN PASSWORD '`+v+`'`,
		`ALTER ROLE `+name+` SET search_path = pg_catalog`,
		`ALTER ROLE `+name+` SET statement_timeout = '30s'`,
		// Waits add up along a chain of those who wait for one another.
		`ALTER ROLE `+name+` SET lock_timeout = '5s'`,
		`ALTER ROLE `+name+` SET idle_in_transaction_session_timeout = '30s'`)
}

// verifier returns what PostgreSQL keeps of a password, so that the password
// itself is in no statement and in no log.
// https://www.postgresql.org/docs/current/catalog-pg-authid.html
// https://datatracker.ietf.org/doc/html/rfc5803
func verifier(secret string) (string, error) {
	const rounds = 4096
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, secret, salt, rounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving a password verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
