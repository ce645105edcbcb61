package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/cordon-fhir/cordon/smart"
)

// userRow is a user as the control API takes and shows it.
type userRow struct {
	Login    string       `json:"login"`
	User     string       `json:"user,omitempty"`
	Person   smart.Person `json:"person"`
	Password string       `json:"password,omitempty"`
	Codes    bool         `json:"codes,omitempty"`
	CodesURL string       `json:"codes_url,omitempty"`
	Disabled bool         `json:"disabled,omitempty"`
}

// users returns the users of the tenant.
func (a *controlAPI) users(ctx context.Context, slug string) (list []userRow, err error) {
	err = a.do(ctx, http.MethodGet, tenantPath(slug, "users"), nil, &list)
	return list, err
}

// addUser adds a user, and returns it with what was made for it.
func (a *controlAPI) addUser(ctx context.Context, slug string, u userRow) (added userRow, err error) {
	err = a.do(ctx, http.MethodPost, tenantPath(slug, "users"), u, &added)
	return added, err
}

// userCommand speaks to the control API about users.
type userCommand struct {
	Add      userAddCommand      `cmd:"" help:"Let a user log in."`
	List     userListCommand     `cmd:"" help:"List the users of a tenant."`
	Disable  userDisableCommand  `cmd:"" help:"Let a user log in no more, and end their sessions."`
	Enable   userEnableCommand   `cmd:"" help:"Let a disabled user log in again."`
	Password userPasswordCommand `cmd:"" help:"Give a user another password, and end their sessions."`
}

// passwordFlags say where a password comes from. It is never on the command
// line, where others see it.
type passwordFlags struct {
	PasswordFile string `placeholder:"FILE" help:"File with the password, - for standard input. Default: one is made and printed."`
}

func (f passwordFlags) read() (string, error) {
	if f.PasswordFile == "" {
		return "", nil
	}
	in := os.Stdin
	if f.PasswordFile != "-" {
		file, err := os.Open(f.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

type userAddCommand struct {
	ofTenant
	passwordFlags
	Login        string   `arg:"" help:"Login of the user."`
	User         string   `placeholder:"REF" help:"fhirUser: 'Practitioner/dr1'."`
	Role         []string `help:"Roles, in the tenant's own words: nurse,billing."`
	Organization []string `placeholder:"ID" help:"Organizations that the user works for."`
	Facility     []string `placeholder:"ID" help:"Locations that the user works at."`
	Department   []string `placeholder:"ID" help:"Departments of the user."`
	At           string   `placeholder:"ID" help:"Location that the user is at."`
	Codes        bool     `help:"Ask for one-time codes; prints what an authenticator app needs."`
}

func (u *userAddCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	password, err := u.read()
	if err != nil {
		return err
	}
	added, err := api.addUser(ctx, u.Tenant, userRow{
		Login: u.Login, User: u.User, Password: password, Codes: u.Codes,
		Person: smart.Person{
			Roles: u.Role, Organizations: u.Organization, Facilities: u.Facility, Departments: u.Department, Location: u.At,
		},
	})
	if err != nil {
		return err
	}
	return printSecrets(c.out, added)
}

// printSecrets prints what the server made and shows this once.
func printSecrets(w io.Writer, u userRow) error {
	for _, line := range []string{u.Password, u.CodesURL} {
		if line == "" {
			continue
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

type userListCommand struct{ ofTenant }

func (l *userListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	list, err := api.users(ctx, l.Tenant)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LOGIN\tUSER\tROLES\tCODES\tSTATUS")
	for _, u := range list {
		codes, status := "no", "active"
		if u.Codes {
			codes = "yes"
		}
		if u.Disabled {
			status = "disabled"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", u.Login, u.User, strings.Join(u.Person.Roles, " "), codes, status)
	}
	return t.Flush()
}

// oneUser is what the commands on one user take.
type oneUser struct {
	ofTenant
	Login string `arg:"" help:"Login of the user."`
}

// do sends in to the path of the user.
func (u *oneUser) do(ctx context.Context, api *controlAPI, verb string, in any) (row userRow, err error) {
	err = api.do(ctx, http.MethodPost, u.path("users", u.Login, verb), in, &row)
	return row, err
}

type userDisableCommand struct{ oneUser }

func (u *userDisableCommand) Run(ctx context.Context, api *controlAPI) error {
	_, err := u.do(ctx, api, "disable", nil)
	return err
}

type userEnableCommand struct{ oneUser }

func (u *userEnableCommand) Run(ctx context.Context, api *controlAPI) error {
	_, err := u.do(ctx, api, "enable", nil)
	return err
}

type userPasswordCommand struct {
	oneUser
	passwordFlags
}

func (u *userPasswordCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	password, err := u.read()
	if err != nil {
		return err
	}
	made, err := u.do(ctx, api, "password", map[string]string{"password": password})
	if err != nil {
		return err
	}
	return printSecrets(c.out, made)
}
