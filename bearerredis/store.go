package bearerredis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"example.com/bearer"
	"github.com/redis/go-redis/v9"
)

const (
	// wait is less than the second that the middleware gives its hooks, so that
	// its log names Redis.
	wait = 500 * time.Millisecond

	// maxCalls bounds the goroutines and connections that calls of a Redis which
	// hangs can take up.
	maxCalls = 1000

	maxPrefix = 64
	maxKeySet = 2 << 20            // twice what the middleware reads of an issuer
	keepKeys  = 7 * 24 * time.Hour // it does not use keys that are older than a day or so
)

// The kinds of keys.
const (
	proofs   = "proof"
	keySets  = "keys"
	tokens   = "token"
	subjects = "subject"
	sessions = "session"
)

// A Store is the part of one Redis that the replicas of an API share. It is a
// bearer.ReplayStore and a bearer.KeyCache, and its method Revoked is for
// bearer.Config. It holds no state but the client, and may be used by several
// goroutines at once.
type Store struct {
	client redis.UniversalClient
	prefix string
	calls  chan struct{} // holds an element for each call under way
}

var (
	_ bearer.ReplayStore = (*Store)(nil)
	_ bearer.KeyCache    = (*Store)(nil)
)

// New returns the Store whose keys begin with prefix and a colon. Stores of the
// same prefix are one: every replica of an API has the same, and so does the
// program that revokes tokens. Several APIs with the same issuers may share one.
// New does not connect.
//
// Reads have to see what was just written, so the client must ask primaries. New
// panics if it is nil, a [redis.Ring], which gives the keys of a shard that
// failed to one that does not know them, or a [redis.ClusterClient] that reads
// from replicas. It also panics if the prefix is empty, is longer than 64 bytes
// or has characters other than letters, digits, '.', '_', ':' and '-'.
func New(client redis.UniversalClient, prefix string) *Store {
	switch c := client.(type) {
	case nil:
		panic("bearerredis: New: no client")
	case *redis.Ring:
		panic("bearerredis: New: a redis.Ring forgets when a shard fails; use Sentinel or Cluster")
	case *redis.ClusterClient:
		if c.Options().ReadOnly { // RouteByLatency and RouteRandomly set it
			panic("bearerredis: New: the client reads from replicas, which learn of a revocation later; leave ReadOnly, RouteByLatency and RouteRandomly off")
		}
	}
	// Without braces, since Redis Cluster would put all keys with the same text
	// between them into one slot.
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-"
	if prefix == "" || len(prefix) > maxPrefix || strings.Trim(prefix, allowed) != "" {
		panic(fmt.Sprintf("bearerredis: New: the prefix %q is not 1 to %d letters, digits, '.', '_', ':' and '-'", prefix, maxPrefix))
	}
	return &Store{client: client, prefix: prefix, calls: make(chan struct{}, maxCalls)}
}

// Add reports whether key was not there, and keeps it for ttl, rounded up to a
// millisecond: both in one step, so that of any number of calls with one key, by
// any number of replicas, one at most reports true. It does not try twice,
// since a second try would take the trace of the first one for a replay: if Redis
// kept the key but its answer was lost, Add returns an error.
func (s *Store) Add(ctx context.Context, key string, ttl time.Duration) (fresh bool, err error) {
	return ask(ctx, s, func(ctx context.Context) (bool, error) {
		set := once{redis.NewBoolCmd(ctx, "set", s.key(proofs, key), 1, "nx", "px", milliseconds(ttl))}
		err := s.client.Process(ctx, set)
		return err == nil && set.Val(), err
	})
}

// once is a command that go-redis does not send again after a failure.
type once struct{ *redis.BoolCmd }

func (once) NoRetry() bool { return true }

// Get returns what [Store.Put] last stored under name, or nil and no error if
// there is nothing. It returns an error if there are more than 2 MiB.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	return ask(ctx, s, func(ctx context.Context) ([]byte, error) {
		// One byte more than there may be, however many there are.
		data, err := s.client.GetRange(ctx, s.key(keySets, name), 0, maxKeySet).Bytes()
		switch {
		case err != nil:
			return nil, err
		case len(data) > maxKeySet:
			return nil, fmt.Errorf("what is stored for %q has more than %d bytes", name, maxKeySet)
		case len(data) == 0: // which GETRANGE has for a key that does not exist
			return nil, nil
		}
		return data, nil
	})
}

// Put stores data under name for a week. It returns an error if data has more
// than 2 MiB.
//
// The middleware believes the keys that it finds here: whoever can write to this
// Redis can sign tokens.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	if len(data) > maxKeySet {
		return fmt.Errorf("bearerredis: the keys for %q have %d bytes, and %d may be stored", name, len(data), maxKeySet)
	}
	data = bytes.Clone(data) // ask may return before the client has sent them
	_, err := ask(ctx, s, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.client.Set(ctx, s.key(keySets, name), data, keepKeys).Err()
	})
	return err
}

// key returns the name of a key. Each part goes into the hash after its length,
// so that no other parts give the same name.
func (s *Store) key(kind string, parts ...string) string {
	var text []byte
	for _, part := range parts {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	hash := sha256.Sum256(text)
	return s.prefix + ":" + kind + ":" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// ask returns what call returns, or an error once the time is over or ctx ends.
//
// The call has a goroutine of its own, since go-redis does not heed the deadline
// of a context everywhere: not while it waits for an answer, unless
// ContextTimeoutEnabled is set, and not while it learns what a cluster is like.
// A call that was given up ends with the client's own timeouts.
func ask[T any](ctx context.Context, s *Store, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait,
		fmt.Errorf("no answer from Redis within %v: %w", wait, context.DeadlineExceeded))
	defer cancel()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	var none T
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("bearerredis: %w", context.Cause(ctx))
	}
	go func() {
		defer func() { <-s.calls }()
		value, err := call(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, fmt.Errorf("bearerredis: %w", r.err)
		}
		return r.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("bearerredis: %w", context.Cause(ctx))
	}
}

// milliseconds rounds up, so that nothing is forgotten early, and to 1 at least:
// Redis refuses 0.
func milliseconds(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return max(ms, 1)
}
