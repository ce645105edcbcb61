package breakout

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Run makes the attacks that the options choose, for every ordered pair of
// tenants, on records of its own that it removes at the end. It fails if the
// suite could not run; what was found is in the Sheet.
func Run(ctx context.Context, target *Target, opt Options) (*Sheet, error) {
	chosen, err := Choose(opt.Only...)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	s, err := Open(ctx, target, opt)
	if err != nil {
		return nil, err
	}
	sheet := s.sheet(chosen, started)
	err = s.all(ctx, chosen, sheet)
	left, cerr := s.Close(ctx)
	sheet.Left, sheet.Finished = left, time.Now().UTC()
	sheet.Requests = s.requests.Load()
	return sheet, cmp.Or(err, cerr)
}

var number = regexp.MustCompile(`^T[0-9]{3}$`)

// Choose returns the attacks that are named, "T001" or "group=3"; all if nothing
// is.
func Choose(only ...string) ([]Attack, error) {
	all := Attacks()
	if len(only) == 0 {
		return all, nil
	}
	var chosen []Attack
	for _, name := range only {
		group, isGroup := strings.CutPrefix(name, "group=")
		n, err := strconv.Atoi(group)
		found := slices.DeleteFunc(slices.Clone(all), func(a Attack) bool {
			return !(a.ID == name || a.Also == name || isGroup && err == nil && a.Group == n)
		})
		if len(found) == 0 || !isGroup && !number.MatchString(name) {
			return nil, fmt.Errorf("there is no attack %q; --list names them", name)
		}
		chosen = append(chosen, found...)
	}
	return chosen, nil
}

// all makes the attacks and writes down what comes of them.
func (s *Suite) all(ctx context.Context, chosen []Attack, sheet *Sheet) error {
	done, of := 0, 0
	for _, a := range chosen {
		of += len(s.pairs(a))
	}
	for i, a := range chosen {
		for _, pair := range s.pairs(a) {
			t, looked, err := s.trial(ctx, a, pair[0], pair[1])
			if err != nil {
				return err
			}
			sheet.note(&sheet.Attacks[i], t, looked)
			if done++; s.opt.Progress != nil {
				s.opt.Progress(done, of, t)
			}
		}
	}
	return nil
}

// pairs are the tenants that the attack is tried between.
func (s *Suite) pairs(a Attack) (all [][2]string) {
	for i, x := range s.order {
		if a.Alone {
			all = append(all, [2]string{x.Slug, s.order[(i+1)%len(s.order)].Slug})
			continue
		}
		for _, y := range s.order {
			if x != y {
				all = append(all, [2]string{x.Slug, y.Slug})
			}
		}
	}
	return all
}

// trial makes one attack and holds the conditions after it.
func (s *Suite) trial(ctx context.Context, a Attack, attacker, victim string) (*Trial, []string, error) {
	before := s.before(ctx, s.parties[victim])
	t := s.Try(ctx, a, attacker, victim)
	var looked []string
	if t.NotRun == "" {
		looked = s.check(ctx, t, before)
	}
	delete(s.states, attacker) // it may have written at home
	return t, looked, ctx.Err()
}
