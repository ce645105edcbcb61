package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
)

// migratorFlags let a command open a store.Migrator.
type migratorFlags struct {
	registryFlags
	placementFlags
	ownerFlags
}

func (f migratorFlags) open(ctx context.Context) (*store.Migrator, keys.KMS, error) {
	kms, err := keys.NewFileKMS(f.KEKDir)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := f.migratorConfig(kms, f.registryFlags, f.placementFlags)
	if err != nil {
		return nil, nil, err
	}
	m, err := store.OpenMigrator(ctx, cfg)
	return m, kms, err
}

// migrateCommand makes and changes the databases.
type migrateCommand struct {
	Up     migrateUpCommand     `cmd:"" default:"withargs" help:"Make what is missing and bring every tenant to the newest shape. May be repeated."`
	Status migrateStatusCommand `cmd:"" help:"Say how far each tenant has come."`
}

type migrateUpCommand struct{ migratorFlags }

// Run makes roles and databases and migrates all placements. A tenant that
// fails does not hold up the others.
func (f *migrateUpCommand) Run(ctx context.Context, c console) error {
	m, _, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Migrate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, "every placement is at the newest step")
	return err
}

type migrateStatusCommand struct{ migratorFlags }

// Run prints the state of each tenant.
func (f *migrateStatusCommand) Run(ctx context.Context, c console) error {
	m, _, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	states, err := m.States(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENANT\tMODE\tSTATUS\tSTEP\tLATEST\tLAST FAULT")
	for _, s := range states {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", s.Slug, s.Mode, s.Status, s.Version, s.Latest, s.Error)
	}
	return t.Flush()
}

// operatorCommand decides who may use the control API. Only the owner of the
// databases can.
type operatorCommand struct {
	Put operatorPutCommand `cmd:"" help:"Add an operator, or give one another key."`
}

type operatorPutCommand struct {
	migratorFlags
	ID       string `arg:"" help:"Id of the operator."`
	Name     string `help:"Name, for people."`
	Key      string `required:"" placeholder:"FILE" help:"JWK of the operator for ES256 or ES384, private or public; only its public half is stored. If there is no file, a private one is made."`
	Disabled bool   `help:"Let the operator do nothing from now on."`
}

// Run stores the operator.
func (o *operatorPutCommand) Run(ctx context.Context, c console) error {
	m, _, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	return putOperator(ctx, m, store.Operator{ID: o.ID, Name: o.Name, Disabled: o.Disabled}, o.Key)
}

// putOperator stores the operator with the public half of the key in the file,
// which is made if there is none.
func putOperator(ctx context.Context, m *store.Migrator, o store.Operator, file string) error {
	key, err := keepKey(file)
	if err != nil {
		return err
	}
	o.JWK, err = json.Marshal(key.Public())
	if err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return m.PutOperator(ctx, o)
}
