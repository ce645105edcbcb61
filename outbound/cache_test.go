package outbound

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A fake is a server whose answers a test chooses, and its Cache.
type fake struct {
	Cache[int]
	now   atomic.Int64 // seconds
	asked atomic.Int64
	life  time.Duration
	fails atomic.Bool
}

func newFake(life time.Duration) *fake {
	f := &fake{life: life}
	f.now.Store(1_000_000)
	f.Cache = Cache[int]{
		Now: func() time.Time { return time.Unix(f.now.Load(), 0) },
		Read: func(context.Context, string, int) (int, time.Duration, error) {
			n := int(f.asked.Add(1))
			if f.fails.Load() {
				return 0, 0, errors.New("no")
			}
			return n, f.life, nil
		},
	}
	return f
}

func (f *fake) forward(seconds int64) { f.now.Add(seconds) }

func (f *fake) want(t *testing.T, claim string, want int, asked int64) {
	t.Helper()
	got, err := f.Get(t.Context(), "u")
	if (err != nil) != (want == 0) || got != want || f.asked.Load() != asked {
		t.Errorf("%s: %d, %v after %d questions; want %d after %d", claim, got, err, f.asked.Load(), want, asked)
	}
}

// What a server says is good for its time. In the second half of it somebody asks
// again, and a server that fails then harms nobody before the end.
func TestACacheOutlivesAServerThatFailsForAWhile(t *testing.T) {
	f := newFake(10 * time.Minute)
	f.want(t, "at first", 1, 1)
	f.forward(299)
	f.want(t, "in the first half", 1, 1)
	f.forward(2)
	f.want(t, "in the second", 2, 2)
	f.fails.Store(true)
	f.forward(301)
	f.want(t, "while it fails", 2, 3)
	f.want(t, "just after it failed", 2, 3)
	f.forward(31)
	f.want(t, "half a minute later", 2, 4)
	f.forward(300)
	f.want(t, "when the time is up", 0, 5)
	f.want(t, "just after that", 0, 5)
	f.fails.Store(false)
	f.forward(6)
	f.want(t, "when the server is back", 6, 6)
}

// Who looks for something new makes the server say it twice a minute at most.
func TestACacheAsksForNewsTwiceAMinute(t *testing.T) {
	f := newFake(10 * time.Minute)
	f.want(t, "at first", 1, 1)
	for range 5 {
		if _, ok, err := f.News(t.Context(), "u"); ok || err != nil {
			t.Errorf("asked at once: %v %v", ok, err)
		}
	}
	f.forward(30)
	if n, ok, err := f.News(t.Context(), "u"); n != 2 || !ok || err != nil {
		t.Errorf("%d %v %v", n, ok, err)
	}
	f.want(t, "what is new is kept", 2, 2)
}

// Many who ask at once ask the server once.
func TestACacheAsksOnceForAllWhoWait(t *testing.T) {
	f := newFake(time.Hour)
	slow, ready := make(chan struct{}), f.Read
	f.Read = func(ctx context.Context, url string, before int) (int, time.Duration, error) {
		<-slow
		return ready(ctx, url, before)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if n, err := f.Get(t.Context(), "u"); n != 1 || err != nil {
				t.Errorf("%d %v", n, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Get(ctx, "u"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("who does not wait gets %v", err)
	}
	close(slow)
	all.Wait()
	f.want(t, "afterwards", 1, 1)
}
