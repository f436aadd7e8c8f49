package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

// All that is wrong with the flags is told at once.
func TestBadFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"", []string{"fleet: bad flags", "-redis: required"}},
		{"-redis localhost", []string{`-redis: "localhost" is no host:port`}},
		{"-redis :6379", []string{`-redis: ":6379" is no host:port`}},
		{"-redis 127.0.0.1: -audience-claim azp", []string{"is no host:port", "-audience-claim: needs -issuer"}},
		{"-redis 127.0.0.1:1 -token-life -1s", []string{"-token-life: -1s"}},
		{"-redis", []string{"flag needs an argument"}},
		{"revoke", []string{"fleet revoke: bad flags", "-redis: required", "-iss: required", "give -jti, -sub or -sid"}},
		{"revoke -redis 127.0.0.1:1 -iss I -jti J -life 0s more", []string{"-life: 0s", `unexpected arguments ["more"]`}},
		{"revoke -issuer I", []string{"flag provided but not defined"}},
	} {
		var stderr bytes.Buffer
		if got := run(t.Context(), strings.Fields(tt.args), io.Discard, &stderr); got != 2 {
			t.Errorf("fleet %s: exit status %d, want 2", tt.args, got)
		}
		for _, want := range tt.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("fleet %s says %q, want %q in it", tt.args, stderr.String(), want)
			}
		}
	}
}

// A revocation that did not reach Redis is no success.
func TestRevokeWithoutRedis(t *testing.T) {
	s := startRedis(t)
	s.end(os.Kill)
	var stderr bytes.Buffer
	if got := run(t.Context(), []string{"revoke", "-redis", s.addr, "-iss", "I", "-sub", "S"}, io.Discard, &stderr); got != 1 || !strings.Contains(stderr.String(), `subject "S" is not revoked`) {
		t.Errorf("exit status %d, %q, want 1 and what is not revoked", got, stderr.String())
	}
}
