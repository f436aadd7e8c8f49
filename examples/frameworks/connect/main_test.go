package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func start(t *testing.T, config bearer.Config) *httptest.Server {
	t.Helper()
	api, err := newAPI(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(api)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// call calls a procedure and returns the first message of its reply, and the
// reply's header or that of the error.
func call(t *testing.T, server *httptest.Server, protocol connect.ClientOption, procedure string, authorization ...string) (string, http.Header, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client := connect.NewClient[emptypb.Empty, wrapperspb.StringValue](server.Client(), server.URL+procedure, protocol)
	request := connect.NewRequest(new(emptypb.Empty))
	for _, value := range authorization {
		request.Header().Add("Authorization", value)
	}
	meta := func(err error, header http.Header) http.Header {
		if e := new(connect.Error); errors.As(err, &e) {
			return e.Meta()
		}
		return header
	}
	if procedure == watchProcedure {
		stream, err := client.CallServerStream(ctx, request)
		if err != nil {
			return "", meta(err, nil), err
		}
		defer stream.Close()
		if !stream.Receive() {
			return "", meta(stream.Err(), stream.ResponseHeader()), stream.Err()
		}
		return stream.Msg().Value, stream.ResponseHeader(), nil
	}
	reply, err := client.CallUnary(ctx, request)
	if err != nil {
		return "", meta(err, nil), err
	}
	return reply.Msg.Value, reply.Header(), nil
}

func TestProtocols(t *testing.T) {
	iss, config := apitest.New()
	server := start(t, config)
	const (
		invalid    = `Bearer error="invalid_token"`
		needsScope = `Bearer error="insufficient_scope", scope="read:messages"`
	)
	valid := "Bearer " + iss.Token(apitest.Audience, bearertest.Claims{"sub": "alice"})
	reader := "Bearer " + iss.Token(apitest.Audience, bearertest.Claims{"sub": "alice", "scope": "read:messages"})
	for _, protocol := range []struct {
		name   string
		option connect.ClientOption
	}{
		{"Connect", connect.WithClientOptions()},
		{"Connect with JSON", connect.WithProtoJSON()},
		{"gRPC", connect.WithGRPC()},
		{"gRPC-Web", connect.WithGRPCWeb()},
	} {
		for _, tt := range []struct {
			name          string
			procedure     string
			authorization []string
			code          connect.Code // 0: none
			want          string       // the reply
			challenge     string
		}{
			{"public", pingProcedure, nil, 0, "pong", ""},
			{"public, with a header that is not looked at", pingProcedure, []string{"Bearer a b"}, 0, "pong", ""},

			{"no token", whoAmIProcedure, nil, connect.CodeUnauthenticated, "", "Bearer"},
			{"two headers", whoAmIProcedure, []string{valid, valid}, connect.CodeInvalidArgument, "", `Bearer error="invalid_request"`},
			{"expired", whoAmIProcedure, []string{"Bearer " + apitest.Expired(iss)}, connect.CodeUnauthenticated, "", invalid},
			{"any token", whoAmIProcedure, []string{valid}, 0, "alice", ""},

			{"scope: no token", listProcedure, nil, connect.CodeUnauthenticated, "", `Bearer scope="read:messages"`},
			{"scope: expired", listProcedure, []string{"Bearer " + apitest.Expired(iss)}, connect.CodeUnauthenticated, "", invalid},
			{"scope: none", listProcedure, []string{valid}, connect.CodePermissionDenied, "", needsScope},
			{"scope: the one needed", listProcedure, []string{reader}, 0, "here are your messages", ""},

			{"stream: no token", watchProcedure, nil, connect.CodeUnauthenticated, "", `Bearer scope="read:messages"`},
			{"stream: none", watchProcedure, []string{valid}, connect.CodePermissionDenied, "", needsScope},
			{"stream: the scope needed", watchProcedure, []string{reader}, 0, "a message for alice", ""},
		} {
			t.Run(protocol.name+"/"+tt.name, func(t *testing.T) {
				got, header, err := call(t, server, protocol.option, tt.procedure, tt.authorization...)
				var code connect.Code
				if e := new(connect.Error); errors.As(err, &e) {
					code = e.Code()
					if e.Message() == "" {
						t.Error("no message")
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if code != tt.code || got != tt.want {
					t.Errorf("got code %d %q, want %d %q", code, got, tt.code, tt.want)
				}
				if got := strings.Join(header.Values("WWW-Authenticate"), " and "); got != tt.challenge {
					t.Errorf("WWW-Authenticate: got %s, want %s", got, tt.challenge)
				}
				if got := header.Get("Cache-Control"); err != nil && got != "no-store" {
					t.Errorf("Cache-Control: got %q, want no-store", got)
				}
			})
		}
	}
	// A procedure that there is no rule for, or that there is not at all.
	if _, _, err := call(t, server, connect.WithGRPC(), "/messages.v1.Messages/Purge"); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("unknown procedure: got %v, want %v", err, connect.CodeUnauthenticated)
	}
}

// Without a Connect client it is HTTP as usual.
func TestHTTP(t *testing.T) {
	iss, config := apitest.New()
	server := start(t, config)
	downIssuer, config := apitest.New()
	downIssuer.SetDown(true)
	down := start(t, config)
	valid := "Bearer " + iss.Token(apitest.Audience, nil)
	for _, tt := range []struct {
		name          string
		server        *httptest.Server
		procedure     string
		authorization []string
		status        int
		challenge     string
		code          string // in the body
	}{
		{"no token", server, whoAmIProcedure, nil, 401, `Bearer`, "unauthenticated"},
		{"two headers", server, whoAmIProcedure, []string{valid, valid}, 400, `Bearer error="invalid_request"`, "invalid_argument"},
		{"malformed", server, listProcedure, []string{"Bearer x"}, 401, `Bearer error="invalid_token"`, "unauthenticated"},
		{"no scope", server, listProcedure, []string{valid}, 403, `Bearer error="insufficient_scope", scope="read:messages"`, "permission_denied"},
		{"issuer down", down, whoAmIProcedure, []string{"Bearer " + downIssuer.Token(apitest.Audience, nil)}, 503, "", "unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", tt.procedure, strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			r.Header["Authorization"] = tt.authorization
			rec := httptest.NewRecorder()
			tt.server.Config.Handler.ServeHTTP(rec, r)
			var e struct{ Code, Message string }
			if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
				t.Error(err)
			}
			if rec.Code != tt.status || e.Code != tt.code || e.Message == "" {
				t.Errorf("got %d %s, want %d, code %s and a message", rec.Code, rec.Body, tt.status, tt.code)
			}
			apitest.CheckHeader(t, rec.Header(), tt.challenge)
			if got := rec.Header().Get("Retry-After"); (got != "") != (tt.status == 503) {
				t.Errorf("Retry-After: got %q", got)
			}
		})
	}
}
