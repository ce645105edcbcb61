package faults

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/store/pgserver"
)

// Each of these settings loses what was acknowledged when the machine fails. A
// server that started would look well until then.
// https://www.postgresql.org/docs/15/wal-async-commit.html
func TestTheServerRefusesADatabaseThatForgets(t *testing.T) {
	whole(t)
	sys.server.kill()
	defer sys.restart(t)
	for _, tt := range []struct{ whose, set, reset string }{
		{"the role of the server", `ALTER ROLE cordon_app SET synchronous_commit = off`, `ALTER ROLE cordon_app RESET synchronous_commit`},
		{"the role of the audit trail", `ALTER ROLE cordon_audit SET synchronous_commit = off`, `ALTER ROLE cordon_audit RESET synchronous_commit`},
		{"the clinical database", `ALTER DATABASE cordon SET synchronous_commit = off`, `ALTER DATABASE cordon RESET synchronous_commit`},
	} {
		t.Run("synchronous_commit is off for "+tt.whose, func(t *testing.T) {
			asSuperuser(t, tt.set)
			defer asSuperuser(t, tt.reset)
			refuses(t, "synchronous_commit off for "+tt.whose, "synchronous_commit")
		})
	}
	for _, setting := range []string{"synchronous_commit", "full_page_writes", "fsync"} {
		t.Run(setting+" is off for all", func(t *testing.T) {
			restartPostgresWith(t, map[string]string{setting: "off"})
			defer restartPostgresWith(t, nil)
			refuses(t, setting+" off for all", setting)
		})
	}
}

// refuses starts a server, which must end and name the setting.
func refuses(t *testing.T, fault, setting string) {
	t.Helper()
	p, err := sys.launch(sys.bin)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	got := "it serves"
	select {
	case <-p.done:
		got = "it refuses"
		if p.err == nil || !strings.Contains(p.words(), setting) {
			t.Errorf("it ended with %v and does not name %s:\n%s", p.err, setting, p.words())
		}
	case <-time.After(5 * time.Second):
		t.Error("the server serves")
	}
	measured("seeded: "+fault, got, "it refuses")
}

// restartPostgresWith stops PostgreSQL and starts it with the settings too.
func restartPostgresWith(t *testing.T, settings map[string]string) {
	t.Helper()
	if err := sys.pg.Stop(); err != nil {
		t.Fatal(err)
	}
	conf := sys.pgConf
	conf.Settings = maps.Clone(conf.Settings)
	maps.Copy(conf.Settings, settings)
	var err error
	if sys.pg, err = pgserver.Start(context.Background(), conf); err != nil {
		t.Fatal(err)
	}
}

func asSuperuser(t *testing.T, statement string) {
	t.Helper()
	err := sys.asSuperuser(context.Background(), "postgres", func(c *pgx.Conn) error {
		_, err := c.Exec(context.Background(), statement)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
