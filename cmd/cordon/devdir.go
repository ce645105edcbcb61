package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// A devDir is the directory of a development server.
//
//	dev.json       how to reach the server; there once it is ready
//	secrets.json   passwords of the database roles
//	operator.jwk   private key of the operator of the control plane
//	reviewer.jwk   the same of the second one, who approves what the first proposes
//	clients/T/     registered clients of tenant T: ID.json, and ID.jwk, the key
//	users/T/       users of tenant T: LOGIN.json, with the password
//	database.json  how servers open the databases
//	checkpoints/   signed checkpoints of the audit logs
//	kek/           key-encryption keys
//	pg/            the database, unless another is used
//	cordon.log     one line per request
type devDir string

func (d devDir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// A devServer is what dev.json says.
type devServer struct {
	FHIR            string      `json:"fhir"`    // with /{tenant} it is the tenant's base
	Auth            string      `json:"auth"`    // the same, of its authorization server
	Control         string      `json:"control"` // origin of the control API
	Ops             string      `json:"ops"`     // origin of health and metrics
	Operator        string      `json:"operator"`
	OperatorKeyFile string      `json:"operator_key_file"`
	Tenants         []devTenant `json:"tenants"`
}

// A devTenant is a tenant with the clients whose keys are in the directory.
type devTenant struct {
	Slug     string      `json:"slug"`
	Mode     string      `json:"mode"`
	FHIRBase string      `json:"fhir_base"`
	TokenURL string      `json:"token_url"`
	Clients  []devClient `json:"clients"`
	Users    []devUser   `json:"users"`
}

// A devUser is a user who can log in, by a password that is in the directory.
type devUser struct {
	Login    string       `json:"login"`
	Password string       `json:"password"`
	User     string       `json:"user,omitempty"` // fhirUser
	Person   smart.Person `json:"person,omitzero"`
}

// A devClient is a registered client and the file that holds its private JWK.
type devClient struct {
	ID      string   `json:"id"`
	KeyFile string   `json:"key_file,omitempty"` // of one that signs
	Scopes  []string `json:"scopes"`
	User    string   `json:"user,omitempty"`    // fhirUser that it acts for
	Patient string   `json:"patient,omitempty"` // id of the patient in its context

	Encounter   string       `json:"encounter,omitempty"` // the same of the encounter
	Person      smart.Person `json:"person,omitzero"`     // what the access policy decides by
	Method      string       `json:"method,omitempty"`
	RedirectURI string       `json:"redirect_uri,omitempty"` // of an app of users
	LaunchURL   string       `json:"launch_url,omitempty"`
	Name        string       `json:"name,omitempty"`
	JWKSURI     string       `json:"jwks_uri,omitempty"` // where it publishes its keys
}

// server reads dev.json.
func (d devDir) server() (*devServer, error) {
	var s devServer
	err := readJSON(d.path("dev.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no server is ready in %s; start one with: cordon dev --demo --dir %s", d, d)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// tenant returns the tenant with the slug, and the clients of it that are in
// the directory now.
func (d devDir) tenant(s *devServer, slug string) (*devTenant, error) {
	t := &devTenant{Slug: slug, FHIRBase: s.FHIR + "/" + slug, TokenURL: s.Auth + "/" + slug + "/token"}
	var err error
	if t.Clients, err = d.clients(slug); err == nil {
		t.Users, err = d.users(slug)
	}
	return t, err
}

// users returns the users of the tenant whose passwords are in the directory,
// by login.
func (d devDir) users(slug string) ([]devUser, error) {
	files, err := filepath.Glob(d.path("users", slug, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	list := []devUser{}
	for _, file := range files {
		var u devUser
		if err := readJSON(file, &u); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// keepUser stores a user who has been added, with the password.
func (d devDir) keepUser(slug string, u devUser) error {
	return writeJSON(d.path("users", slug, u.Login+".json"), u)
}

// clients returns the clients of the tenant whose keys are in the directory:
// those of the demo in their order, then the others by id.
func (d devDir) clients(slug string) ([]devClient, error) {
	files, err := filepath.Glob(d.path("clients", slug, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("listing clients: %w", err)
	}
	list := []devClient{}
	for _, file := range files {
		var c devClient
		if err := readJSON(file, &c); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b devClient) int { return demoOrder(a) - demoOrder(b) })
	return list, nil
}

// keep stores a client that has been registered, with its key if it has one.
func (d devDir) keep(slug string, c devClient, key *jose.JSONWebKey) (devClient, error) {
	if name := slug + "/" + c.ID + ".jwk"; strings.Count(name, "/") != 1 || !filepath.IsLocal(name) {
		return c, errors.New("the client's id cannot be the name of a file")
	}
	file := d.path("clients", slug, c.ID)
	if key != nil {
		c.KeyFile = file + ".jwk"
		if err := writeJSON(c.KeyFile, key); err != nil {
			return c, err
		}
	}
	return c, writeJSON(file+".json", c)
}

// devSecrets are what the server must have the same at each start.
type devSecrets struct {
	App      string `json:"app"`
	Audit    string `json:"audit"`
	Registry string `json:"registry"`
	Log      string `json:"log"`
	// Port of our own PostgreSQL: the placements of tenants name it.
	Port int `json:"postgres_port,omitempty"`
}

func (s devSecrets) roles() store.Secrets {
	return store.Secrets{App: s.App, Audit: s.Audit, Registry: s.Registry, Log: s.Log}
}

// secrets reads the secrets, and makes them in a new directory.
func (d devDir) secrets() (s devSecrets, isNew bool, err error) {
	err = readJSON(d.path("secrets.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		s = devSecrets{App: rand.Text(), Audit: rand.Text(), Registry: rand.Text(), Log: rand.Text()}
		return s, true, writeJSON(d.path("secrets.json"), s)
	}
	if err == nil && s.Log == "" { // of a release that had no audit logs
		s.Log = rand.Text()
		err = writeJSON(d.path("secrets.json"), s)
	}
	return s, false, err
}

func readJSON(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	return nil
}

// writeJSON writes v to the file as a whole: a reader sees the old text or the
// new. Only the owner may read it.
func writeJSON(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
