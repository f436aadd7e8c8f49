package bearerredis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/bearer"
	"github.com/redis/go-redis/v9"
)

// leeway is the most that bearer.Config.Leeway can be: a token is accepted for
// so long after its "exp".
const leeway = 10 * time.Minute

// RevokeToken revokes the token whose "jti" is id, until it expires: expires is
// its "exp". It does nothing if that is past by more than any leeway.
func (s *Store) RevokeToken(ctx context.Context, issuer, id string, expires time.Time) error {
	if issuer == "" || id == "" || expires.IsZero() {
		return errors.New("bearerredis: RevokeToken needs the issuer, the token's id and the time when it expires")
	}
	return s.revoke(ctx, s.key(tokens, issuer, id), 0, expires)
}

// RevokeSubject revokes all tokens of a subject ("sub") that were issued before
// a time, and those without a time of issue ("iat"). Tokens have whole seconds:
// one that was issued in the very second of issuedBefore is revoked too, since it
// may have been issued before. If a time that is later was given earlier, that
// one stays.
//
// tokenLife is the longest time that the issuer's tokens live: the revocation
// is kept until the last one that it concerns has expired. A token that lives
// longer outlives its revocation.
//
// The times of issue are by the issuer's clock. If it may be ahead of this one,
// tokens that it issued before can bear a later time: add the difference to
// issuedBefore.
func (s *Store) RevokeSubject(ctx context.Context, issuer, subject string, issuedBefore time.Time, tokenLife time.Duration) error {
	if issuer == "" || subject == "" || issuedBefore.IsZero() || tokenLife <= 0 {
		return errors.New("bearerredis: RevokeSubject needs the issuer, the subject, a time of issue and the longest life of a token")
	}
	// The token of that second may have been issued at its end.
	expires := issuedBefore.Add(time.Second).Add(tokenLife)
	return s.revoke(ctx, s.key(subjects, issuer, subject), issuedBefore.Unix(), expires)
}

// RevokeSession revokes all tokens of a session ("sid"), whenever they were
// issued. tokenLife is as for [Store.RevokeSubject].
func (s *Store) RevokeSession(ctx context.Context, issuer, sid string, tokenLife time.Duration) error {
	if issuer == "" || sid == "" || tokenLife <= 0 {
		return errors.New("bearerredis: RevokeSession needs the issuer, the session's id and the longest life of a token")
	}
	return s.revoke(ctx, s.key(sessions, issuer, sid), 0, time.Now().Add(tokenLife))
}

// extend sets a key to a number for a time. A number or a time that is greater
// already stays: programs that revoke at the same time, or late, or with a
// shorter life, take nothing back.
const extend = `
local number = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or ARGV[1]))
local life = math.max(tonumber(ARGV[2]), redis.call('PTTL', KEYS[1]))
return redis.call('SET', KEYS[1], string.format('%.0f', number), 'PX', string.format('%.0f', life))`

func (s *Store) revoke(ctx context.Context, key string, second int64, expires time.Time) error {
	life := time.Until(expires.Add(leeway))
	if life <= 0 {
		return nil
	}
	_, err := ask(ctx, s, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.client.Eval(ctx, extend, []string{key}, second, milliseconds(life)).Err()
	})
	return err
}

// Revoked reports whether the token with the claims c was revoked, by its "jti",
// its "sub" or its "sid". It asks Redis for all of them in one round trip, and
// not at all if the token has none of them. It is for bearer.Config.Revoked, and
// its error means that nobody knows.
func (s *Store) Revoked(ctx context.Context, c *bearer.Claims) (bool, error) {
	sid, err := bearer.As[sessionID](c)
	if err != nil {
		return false, fmt.Errorf("bearerredis: %w", err)
	}
	return ask(ctx, s, func(ctx context.Context) (bool, error) {
		// A pipeline and no MGET: in a cluster the keys are in different slots.
		pipe := s.client.Pipeline()
		get := func(kind, id string) *redis.StringCmd {
			if id == "" {
				return nil
			}
			return pipe.Get(ctx, s.key(kind, c.Issuer, id))
		}
		byToken, bySubject, bySession := get(tokens, c.ID), get(subjects, c.Subject), get(sessions, string(sid))
		_, failed := pipe.Exec(ctx) // nothing, if it is empty
		if errors.Is(failed, redis.Nil) {
			failed = nil
		}
		for _, answer := range []*redis.StringCmd{byToken, bySubject, bySession} {
			if answer == nil {
				continue
			}
			second, err := answer.Int64()
			switch {
			case errors.Is(err, redis.Nil):
			case err != nil:
				if failed == nil {
					failed = err
				}
			// A token without a time of issue has the zero time, which is before all.
			case answer != bySubject || c.IssuedAt.Unix() <= second:
				return true, nil // whatever became of the others
			}
		}
		return false, failed
	})
}

// A sessionID is what a token has as "sid", or "".
type sessionID string

// UnmarshalJSON reads it from the whole payload. It is no struct with a tag,
// since that would take a claim "SID" for it. A number is taken as it is written.
func (id *sessionID) UnmarshalJSON(payload []byte) error {
	var claims map[string]json.RawMessage
	if err := json.Unmarshal(payload, &claims); err != nil {
		return err
	}
	var sid string
	if json.Unmarshal(claims["sid"], &sid) != nil {
		sid = string(claims["sid"])
	}
	*id = sessionID(sid)
	return nil
}
