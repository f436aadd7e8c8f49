// Package bearerredis lets the replicas of an API share, through Redis or
// Valkey, what one process of example.com/bearer knows by itself: the proofs
// that were used, the keys of the issuers, and the tokens that were revoked.
//
//	store := bearerredis.New(client, "messages-api")
//	auth, err := bearer.New(bearer.Config{
//		…
//		KeyCache: store,
//		Revoked:  store.Revoked,
//		DPoP:     &bearer.DPoP{Replay: store},
//	})
//
// Each of the three can be used without the others. [Store.RevokeToken],
// [Store.RevokeSubject] and [Store.RevokeSession] revoke, from any program that
// has a [Store] of the same prefix.
//
// # When Redis does not answer
//
// Every method returns within half a second, whatever Redis and the settings of
// the client. What Redis did not answer by then is an error and never a verdict,
// and an error of [Store.Add] or [Store.Revoked] makes the middleware reply 503:
// a Redis that is slow, full or gone lets in neither a replay nor a revoked
// token. An error of [Store.Get] or [Store.Put] costs nothing but the sharing.
//
// What Redis itself forgets, by eviction, fail-over or a restart without
// persistence, it answers as if it had never known it. The README says how to
// set it up, and what is promised then.
//
// # What is stored
//
// A key is the prefix, a word for its kind, and 43 characters of SHA-256: no
// byte of a token, of a proof or of a name reaches Redis as it came. A key has
// at most 116 bytes, and each one expires.
package bearerredis
