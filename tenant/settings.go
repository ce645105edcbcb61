package tenant

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// Settings are what operators choose for a tenant. The zero Settings are the
// defaults.
type Settings struct {
	Validation   Validation   `json:"validation,omitzero"`
	Terminology  Terminology  `json:"terminology,omitzero"`
	Limits       Limits       `json:"limits,omitzero"`
	Alerts       Alerts       `json:"alerts,omitzero"`
	Registration Registration `json:"registration,omitzero"`
	Consent      Consent      `json:"consent,omitzero"`
	BreakGlass   BreakGlass   `json:"breakGlass,omitzero"`
	Audit        Audit        `json:"audit,omitzero"`
	Import       Import       `json:"import,omitzero"`
	Export       Export       `json:"export,omitzero"`

	Subscriptions Subscriptions `json:"subscriptions,omitzero"`
}

// Validation says what a resource is held against before it is stored.
type Validation struct {
	// Level is how much is checked; "" is base.
	Level Level `json:"level,omitzero"`
	// Profiles are the canonical URLs that the level required asks for: a
	// resource of a type that some of them are about has to meet one of them.
	Profiles []string `json:"profiles,omitempty"`
}

// A Level of validation holds what the levels before it hold, and more.
type Level string

// The levels.
const (
	// Off checks only what storing and searching need: the structure.
	Off Level = "off"
	// Base checks what R4 itself says of each type.
	Base Level = "base"
	// Claimed checks also the profiles that meta.profile claims.
	Claimed Level = "claimed"
	// Required checks also that a profile of the tenant is met.
	Required Level = "required"
)

// Terminology says who is asked about codes that the tenant's own definitions
// and packages do not hold.
type Terminology struct {
	// URL is the FHIR base of a terminology server, "" for none.
	URL string `json:"url,omitzero"`
	// OnFailure is what a code counts as while the server does not answer; ""
	// is closed.
	OnFailure OnFailure `json:"onFailure,omitzero"`
	// Systems are the code systems that it is asked about; none means all.
	Systems []string `json:"systems,omitempty"`
}

// OnFailure says what a code counts as that nobody could check.
type OnFailure string

// The ways to go on.
const (
	Closed OnFailure = "closed" // as invalid
	Warn   OnFailure = "warn"   // as valid, with a warning
)

// maxURLs and maxURL bound the lists of canonical URLs.
const (
	maxURLs = 100
	maxURL  = 512
)

// ParseSettings reads the JSON of Settings from an operator. What it does not
// know is an error, so that a misspelled setting is not taken for the default.
// The error is for the operator.
func ParseSettings(text []byte) (Settings, error) {
	var s Settings
	if err := json.Unmarshal(text, &s, json.RejectUnknownMembers(true)); err != nil {
		var semantic *json.SemanticError
		if errors.As(err, &semantic) && semantic.JSONPointer != "" {
			return Settings{}, fmt.Errorf("settings have nothing like %s, or not of this type", semantic.JSONPointer)
		}
		return Settings{}, errors.New("settings have to be a JSON object of what can be set")
	}
	return s, s.Check()
}

// storedSettings reads Settings that were checked before they were stored. It
// passes over what a newer release may have added.
func storedSettings(text []byte) (s Settings, err error) {
	if len(text) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("tenant: malformed settings: %w", err)
	}
	return s, s.Check()
}

// Check returns what is wrong with s.
func (s Settings) Check() error {
	v, t := s.Validation, s.Terminology
	switch {
	case v.Level != "" && !slices.Contains([]Level{Off, Base, Claimed, Required}, v.Level):
		return errors.New("validation.level has to be off, base, claimed or required")
	case v.Level == Required && len(v.Profiles) == 0:
		return errors.New("validation.level required needs validation.profiles")
	case v.Level != Required && len(v.Profiles) > 0:
		return errors.New("validation.profiles are for validation.level required")
	case t.OnFailure != "" && t.OnFailure != Closed && t.OnFailure != Warn:
		return errors.New("terminology.onFailure has to be closed or warn")
	case t.URL == "" && (t.OnFailure != "" || len(t.Systems) > 0):
		return errors.New("terminology.onFailure and terminology.systems need terminology.url")
	case t.URL != "" && !serverURL(t.URL):
		return errors.New("terminology.url has to be an http or https URL without user, query or fragment")
	}
	if err := cmp.Or(s.Limits.check(), s.Alerts.check(), s.Registration.check(), s.Consent.check(), s.BreakGlass.check(), s.Audit.check(), s.Import.check(), s.Export.check(), s.Subscriptions.check()); err != nil {
		return err
	}
	if err := checkURLs("validation.profiles", v.Profiles); err != nil {
		return err
	}
	return checkURLs("terminology.systems", t.Systems)
}

func checkURLs(name string, list []string) error {
	if len(list) > maxURLs {
		return fmt.Errorf("%s has at most %d entries", name, maxURLs)
	}
	for i, s := range list {
		u, err := url.Parse(s)
		if err != nil || !u.IsAbs() || len(s) > maxURL || strings.ContainsAny(s, " \t\r\n") {
			return fmt.Errorf("%s has to be a list of absolute URLs of at most %d bytes", name, maxURL)
		}
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("%s names something twice", name)
		}
	}
	return nil
}

func serverURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && len(s) <= maxURL &&
		u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && !strings.HasSuffix(s, "#")
}
