package main

import (
	"maps"
	"runtime"
	"strings"
	"sync"

	"example.com/bearer/bearertest"
)

const (
	issuerURL = "https://login.example.com/"
	keysURL   = issuerURL + ".well-known/jwks.json"
	apiURL    = "https://api.example.com/api/messages"
	audience  = "https://api.example.com"
	subject   = "auth0|65f1c2a94be1d70012ab34cd"
)

// The claims of three kinds of access tokens as they are met with in practice.
// They differ in size: with RS256 the tokens have 0.9, 1.6 and 2.6 KB.
var (
	auth0 = bearertest.Claims{
		"sub":         subject,
		"aud":         []string{audience, "https://example.eu.auth0.com/userinfo"},
		"scope":       "openid profile email offline_access read:messages write:messages",
		"azp":         "q3nX7vJ0aZ1kYb8Lw5tRcPmDfUe2HgSi",
		"client_id":   nil,
		"permissions": []string{"read:messages", "write:messages"},
	}
	keycloak = bearertest.Claims{
		"sub":                subject,
		"aud":                []string{audience, "account"},
		"typ":                "Bearer",
		"azp":                "web-frontend",
		"client_id":          nil,
		"session_state":      "0b1c6c1e-6f8e-4c38-9a55-1df3f7f0a6c2",
		"sid":                "0b1c6c1e-6f8e-4c38-9a55-1df3f7f0a6c2",
		"auth_time":          1700000000,
		"locale":             "de",
		"acr":                "1",
		"allowed-origins":    []string{"https://www.example.com", "https://admin.example.com"},
		"scope":              "openid profile email offline_access",
		"email_verified":     true,
		"name":               "Erika Mustermann",
		"preferred_username": "erika.mustermann",
		"given_name":         "Erika",
		"family_name":        "Mustermann",
		"email":              "erika.mustermann@example.com",
		"realm_access": map[string]any{
			"roles": []string{"default-roles-example", "offline_access", "uma_authorization"},
		},
		"resource_access": map[string]any{
			"messages-api": map[string]any{"roles": []string{"reader", "writer", "auditor"}},
			"account":      map[string]any{"roles": []string{"manage-account", "manage-account-links", "view-profile"}},
		},
	}
	entra = bearertest.Claims{
		"sub":                subject,
		"aud":                audience,
		"nbf":                1700000000,
		"aio":                "AXQAi/8WAAAAk1J9Vt0c3Q8b6mYxZ2uFh4rLs7dEwNpGqTjC5oKyUaBvIeX1nMz0R",
		"azp":                "7d3f1a52-9c0e-4b7e-8f53-2b6a4c9d1e70",
		"client_id":          nil,
		"azpacr":             "1",
		"name":               "Erika Mustermann",
		"oid":                "c1e8b4d6-3f27-4a90-b5d1-6e7f80912a3b",
		"preferred_username": "erika.mustermann@example.com",
		"rh":                 "0.AXoAx2Qm9VbN3kWz1YtUeRiOpAsDfGhJkLzXcVbNmQwErTyU",
		"scp":                "Messages.Read Messages.ReadWrite User.Read",
		"tid":                "9f4a2c7e-5b18-4d63-a0e9-3c8d7b6f1254",
		"uti":                "kP3xVn8ZqEyR1tLwU5sDAA",
		"ver":                "2.0",
		"roles":              []string{"Messages.Audit", "Messages.Admin"},
		"groups": []string{
			"01b6f0a2-7c3d-4e58-91af-2d84c6e07b13", "12c7a1b3-8d4e-4f69-82b0-3e95d7f18c24",
			"23d8b2c4-9e5f-407a-93c1-4fa6e8029d35", "34e9c3d5-af60-418b-a4d2-50b7f913ae46",
			"45fad4e6-b071-429c-b5e3-61c80a24bf57", "560be5f7-c182-43ad-86f4-72d91b35c068",
			"671cf608-d293-44be-97a5-83ea2c46d179", "782da719-e3a4-45cf-a8b6-94fb3d57e28a",
			"893eb82a-f4b5-46d0-b9c7-a50c4e68f39b", "9a4fc93b-05c6-47e1-8ad8-b61d5f79a4ac",
			"ab50da4c-16d7-48f2-9be9-c72e608ab5bd", "bc61eb5d-27e8-4903-acfa-d83f719bc6ce",
			"cd72fc6e-38f9-4a14-bd0b-e94082acd7df", "de830d7f-490a-4b25-8e1c-fa5193bde8e0",
			"ef941e80-5a1b-4c36-9f2d-0b62a4cef9f1", "f0a52f91-6b2c-4d47-a03e-1c73b5df0a02",
			"01b630a2-7c3d-4e58-b14f-2d84c6e01b13", "12c741b3-8d4e-4f69-8250-3e95d7f12c24",
			"23d852c4-9e5f-407a-9361-4fa6e8023d35", "34e963d5-af60-418b-a472-50b7f9134e46",
			"45fa74e6-b071-429c-b583-61c80a245f57", "560b85f7-c182-43ad-8694-72d91b356068",
			"671c3608-d293-44be-9725-83ea2c461179", "782d3719-e3a4-45cf-a836-94fb3d57128a",
			"893e382a-f4b5-46d0-b947-a50c4e68139b",
		},
	}
)

// mint returns n tokens that differ in "jti".
func mint(t *trial, n int) []string {
	tokens := make([]string, n)
	var wg sync.WaitGroup
	for first := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := first; i < n; i += runtime.GOMAXPROCS(0) {
				tokens[i] = t.token(t.claims)
			}
		})
	}
	wg.Wait()
	return tokens
}

// with returns claims with one of them changed.
func with(claims bearertest.Claims, name string, value any) bearertest.Claims {
	changed := maps.Clone(claims)
	changed[name] = value
	return changed
}

// tampered returns token with another payload under the same signature.
func tampered(token, other string) string {
	parts, otherParts := strings.Split(token, "."), strings.Split(other, ".")
	return parts[0] + "." + otherParts[1] + "." + parts[2]
}
