package jwks

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"
	"unsafe"

	"example.com/bearer/bearertest"
	"example.com/bearer/internal/jose"
)

// These tests run in real time and wait for nothing in it: in a bubble of
// testing/synctest there is but one clock.

// later returns t with the wall clock d ahead and the monotonic clock where it is,
// as after a machine was suspended. The package time has no way to make such a
// time; how it keeps the two is in the comment of its type Time.
func later(t time.Time, d time.Duration) time.Time {
	want := t.Round(0).Add(d)
	*(*uint64)(unsafe.Pointer(&t)) += uint64(d/time.Second) << 30
	if !t.Round(0).Equal(want) {
		panic("time.Time is not what it was")
	}
	return t
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newClocked returns an issuer, and a Source that has its keys.
func newClocked(t *testing.T, client *http.Client) (*bearertest.Issuer, *Source) {
	t.Helper()
	iss := bearertest.NewIssuer("https://login.example.com/")
	if client == nil {
		client = iss.Client()
	} else if client.Transport == nil {
		client.Transport = iss.Client().Transport
	}
	s := New(Config{Issuer: iss.URL, URL: "https://login.example.com/.well-known/jwks.json", Client: client,
		Log: slog.New(slog.DiscardHandler), Algorithms: jose.Algorithms})
	if _, err := s.Current(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	return iss, s
}

// A set is due when either clock says so: the monotonic one stands still while a
// machine is suspended, and the wall clock may be set back.
func TestEitherClock(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, tt := range []struct {
		name   string
		both   time.Duration
		wall   time.Duration // of the wall clock besides
		due    bool
		serves bool
	}{
		{"a minute later", m, 0, false, true},
		{"9.5 minutes later", 19 * m / 2, 0, true, true},
		{"9.5 minutes later by the wall clock", 0, 19 * m / 2, true, true},
		{"9.5 minutes later by the monotonic clock", 19 * m / 2, -19 * m / 2, true, true},
		{"an hour earlier by the wall clock", m, -h, false, true},
		{"24 h later by the wall clock", 0, 24 * h, true, true},
		{"24.2 h later by the wall clock", 0, 24*h + 12*m, true, false},
		{"24.2 h later by the monotonic clock", 24*h + 12*m, -24 * h, true, false},
		{"thirty days later by the wall clock", 0, 30 * 24 * h, true, false},
	} {
		iss, s := newClocked(t, nil)
		iss.SetDown(true)
		set := *s.set()
		for _, at := range []*time.Time{&set.fetched, &set.refresh, &set.idle, &set.expires} {
			*at = later(at.Add(-tt.both), -tt.wall)
		}
		s.mu.Lock()
		s.current.Store(&view{set: &set})
		s.schedule(time.Now())
		s.mu.Unlock()
		_, err := s.Current(t.Context(), time.Now())
		s.mu.Lock()
		f, fetches := s.inflight, s.failures
		s.mu.Unlock()
		if f != nil {
			<-f.done
		}
		if due := f != nil || fetches > 0; due != tt.due || (err == nil) != tt.serves {
			t.Errorf("%s: due = %v and %v, want due = %v and served = %v", tt.name, due, err, tt.due, tt.serves)
		}
	}
}

// A process that stands still between requests, as functions do, wakes up with a
// fetch whose time is over. The next request gets one of its own, and none of it
// counts as a failure: it was not the issuer's.
func TestFrozen(t *testing.T) {
	var answer func(*http.Request) (*http.Response, error)
	client := &http.Client{}
	iss, s := newClocked(t, client)
	home := client.Transport
	thaw, thawed := make(chan struct{}), make(chan struct{})
	answer = func(r *http.Request) (*http.Response, error) {
		resp, err := home.RoundTrip(r)
		<-thaw
		close(thawed)
		return resp, err
	}
	frozen := true
	s.client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if frozen {
			return answer(r)
		}
		return home.RoundTrip(r)
	})
	started := time.Now().Add(9*time.Minute + 30*time.Second)
	if _, err := s.Current(t.Context(), started); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	late := s.inflight
	s.mu.Unlock()
	for s.fetches.Load() != 2 {
		time.Sleep(time.Millisecond)
	}
	for iss.Fetches() != 2 {
		time.Sleep(time.Millisecond)
	}
	frozen = false
	iss.Replace()
	set, err := s.Current(t.Context(), later(started.Add(time.Second), 20*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Candidates("ES256", iss.KeyID())) == 0 {
		t.Error("20 h later: the set of then, want what the issuer has now")
	}
	<-late.done
	close(thaw)
	<-thawed
	if now, _ := s.Current(t.Context(), time.Now()); now != set {
		t.Error("the late answer took the place of the newer one")
	}
	if stats := s.Stats(); stats.Err != nil {
		t.Errorf("a failure: %v", stats.Err)
	}
}

// What a fetch brings when its time is long over is of before a freeze.
func TestLateResult(t *testing.T) {
	for _, err := range []error{nil, errors.New("context deadline exceeded")} {
		s := New(Config{Issuer: "i", Log: slog.New(slog.DiscardHandler)})
		now := time.Now()
		f := &fetch{started: later(now, -20*time.Hour), deadline: later(now.Add(time.Second), -20*time.Hour), cancel: func() {}, done: make(chan struct{})}
		s.inflight = f
		s.finish(f, nil, haul{set: &Set{life: minLife}}, err)
		<-f.done
		if s.set() != nil || s.inflight != nil || s.failures != 0 || s.lastErr != nil {
			t.Errorf("%v: set %v, fetch %v, failures %d, want nothing of it", err, s.set(), s.inflight, s.failures)
		}
	}
}
