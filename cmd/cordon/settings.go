package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// settings are those of a tenant as the control API shows them.
type settings struct {
	Version  int64          `json:"version"`
	Settings map[string]any `json:"settings"`
}

type tenantSettingsCommand struct{ tenantSlug }

func (t *tenantSettingsCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	s, err := api.settings(ctx, t.Slug)
	if err != nil {
		return err
	}
	return s.print(c.out)
}

type tenantSetCommand struct {
	tenantSlug
	Values []string `arg:"" placeholder:"NAME=VALUE" help:"What to set: 'validation.level=claimed'. A list is JSON; no value takes the default."`
}

func (t *tenantSetCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	s, err := api.settings(ctx, t.Slug)
	if err != nil {
		return err
	}
	for _, v := range t.Values {
		if err := s.set(v); err != nil {
			return err
		}
	}
	if err := api.do(ctx, http.MethodPut, tenantPath(t.Slug, "settings"), s, &s); err != nil {
		return err
	}
	return s.print(c.out)
}

func (a *controlAPI) settings(ctx context.Context, slug string) (s settings, err error) {
	err = a.do(ctx, http.MethodGet, tenantPath(slug, "settings"), nil, &s)
	if s.Settings == nil {
		s.Settings = map[string]any{}
	}
	return s, err
}

// set changes one setting, "group.name=value". What it may be, the control
// plane knows.
func (s settings) set(text string) error {
	path, value, ok := strings.Cut(text, "=")
	names := strings.Split(path, ".")
	if !ok || len(names) < 2 {
		return fmt.Errorf("%q is not of the form group.name=value", text)
	}
	members, name := s.Settings, names[len(names)-1]
	for _, group := range names[:len(names)-1] {
		inner, _ := members[group].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			members[group] = inner
		}
		members = inner
	}
	if value == "" {
		delete(members, name)
		return nil
	}
	var parsed any = value
	if json.Unmarshal([]byte(value), &parsed) != nil {
		parsed = value
	}
	members[name] = parsed
	return nil
}

func (s settings) print(w io.Writer) error {
	text, err := json.MarshalIndent(s.Settings, "", "  ")
	if err != nil {
		return fmt.Errorf("printing settings: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
