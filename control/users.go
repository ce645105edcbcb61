package control

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// userBody is a user as the API takes and shows it.
type userBody struct {
	Login string `json:"login"`
	// User is the fhirUser, "Practitioner/dr1".
	User   string       `json:"user,omitempty"`
	Person smart.Person `json:"person"`
	// Password is chosen by who adds the user. Without one the answer has one
	// that was made, and nothing shows it again.
	Password string `json:"password,omitempty"`
	// Codes asks for one-time codes. CodesURL, in the answer, is what an
	// authenticator app needs, and nothing shows it again.
	Codes    bool   `json:"codes,omitempty"`
	CodesURL string `json:"codes_url,omitempty"`
	Disabled bool   `json:"disabled,omitempty"`
}

func (b userBody) check() error {
	if !smart.ValidLogin(b.Login) {
		return fhir.Errorf(fhir.Invalid, "login has to be 1 to 100 of a-z, 0-9 and ._@+-, beginning with a letter or digit")
	}
	if b.User != "" {
		if !smart.ValidUser(b.User) {
			return fhir.Errorf(fhir.Invalid, "user has to be a reference like Practitioner/dr1")
		}
	}
	if b.CodesURL != "" {
		return fhir.Errorf(fhir.Invalid, "codes_url is made here, not chosen")
	}
	if err := b.Person.Check(); err != nil {
		return fhir.Errorf(fhir.Invalid, "person: %s", err)
	}
	return nil
}

func (a *api) listUsers(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	accounts, err := a.Registry.Accounts(ctx, t)
	if err != nil {
		return answer{}, err
	}
	list := make([]userBody, 0, len(accounts))
	for _, u := range accounts {
		list = append(list, userBody{Login: u.Login, User: u.User, Person: u.Person, Codes: u.Coded, Disabled: u.Disabled})
	}
	return answer{http.StatusOK, list, "listed the users of tenant " + c.slug}, nil
}

// addUser adds a user or replaces the one with the login: 201 or 200.
func (a *api) addUser(ctx context.Context, c call) (answer, error) {
	var b userBody
	t, err := a.asked(ctx, c, &b)
	if err != nil {
		return answer{}, err
	}
	if err := b.check(); err != nil {
		return answer{}, err
	}
	account := store.Account{Login: b.Login, User: b.User, Person: b.Person, Disabled: b.Disabled}
	if account.Hash, b.Password, err = hash(ctx, b.Password); err != nil {
		return answer{}, err
	}
	if b.Codes {
		secret := smart.NewTOTP()
		b.CodesURL = smart.TOTPURL(t.Name, b.Login, secret)
		if err := a.Registry.SealCodes(ctx, t, &account, secret); err != nil {
			return answer{}, err
		}
	}
	created, err := a.putAccount(ctx, t, account)
	if err != nil {
		return answer{}, err
	}
	if created {
		return answer{http.StatusCreated, b, "added user " + b.Login + " to tenant " + c.slug}, nil
	}
	return answer{http.StatusOK, b, "replaced user " + b.Login + " of tenant " + c.slug}, nil
}

// hash returns the hash of a password, and the password itself if it is not the
// caller's but made here.
func hash(ctx context.Context, chosen string) (hashed, made string, err error) {
	if chosen == "" {
		made = rand.Text()
		chosen = made
	}
	if err := smart.CheckPassword(chosen); err != nil {
		return "", "", fhir.Errorf(fhir.Invalid, "%s", err)
	}
	hashed, err = smart.HashPassword(ctx, chosen)
	return hashed, made, err
}

// putAccount stores an account. What its user had let apps do is void when it
// returns.
func (a *api) putAccount(ctx context.Context, t *tenant.Tenant, account store.Account) (created bool, err error) {
	created, err = a.Registry.PutAccount(ctx, t, account)
	if err == nil && !created {
		time.Sleep(smart.RevocationDelay)
	}
	return created, err
}

// setPassword gives a user another password.
func (a *api) setPassword(ctx context.Context, c call) (answer, error) {
	var b struct {
		Password string `json:"password,omitempty"`
	}
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	err := a.change(ctx, c, func(account *store.Account) (err error) {
		account.Hash, b.Password, err = hash(ctx, b.Password)
		return err
	})
	return answer{http.StatusOK, b, "changed the password of user " + c.item + " of tenant " + c.slug}, err
}

func (a *api) disableUser(ctx context.Context, c call) (answer, error) {
	return a.setDisabled(ctx, c, true, "disabled")
}

func (a *api) enableUser(ctx context.Context, c call) (answer, error) {
	return a.setDisabled(ctx, c, false, "enabled")
}

func (a *api) setDisabled(ctx context.Context, c call, disabled bool, did string) (answer, error) {
	err := a.change(ctx, c, func(account *store.Account) error {
		account.Disabled = disabled
		return nil
	})
	return answer{http.StatusOK, userBody{Login: c.item, Disabled: disabled}, did + " user " + c.item + " of tenant " + c.slug}, err
}

// change stores the account in the path as fn leaves it.
func (a *api) change(ctx context.Context, c call, fn func(*store.Account) error) error {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return err
	}
	account, err := a.Registry.Account(ctx, t, c.item)
	if errors.Is(err, store.ErrUnknownAccount) {
		return fhir.Errorf(fhir.NotFound, "there is no such user")
	}
	if err != nil {
		return err
	}
	if err := fn(&account); err != nil {
		return err
	}
	_, err = a.putAccount(ctx, t, account)
	return err
}
