package bearergrpc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Request returns the call of ctx as the HTTP request that it is judged as, for
// [bearer.Middleware.Authenticate] in the midst of a stream. ctx is the one that the
// method got.
func Request(ctx context.Context) *http.Request {
	method, _ := grpc.Method(ctx)
	return newRequest(ctx, method)
}

// newRequest returns the HTTP request that a call is: gRPC is a POST request for the
// full method name, whose header is the metadata.
func newRequest(ctx context.Context, method string) *http.Request {
	r := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Path: method},
		Proto:  "HTTP/2.0", ProtoMajor: 2,
		Header:     make(http.Header),
		Body:       http.NoBody,
		RequestURI: method,
	}
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	for name, values := range md {
		if !strings.HasPrefix(name, ":") { // as ":authority" does
			// All values: two tokens must not look like one.
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if p, ok := peer.FromContext(ctx); ok {
		if p.Addr != nil {
			r.RemoteAddr = p.Addr.String()
		}
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			r.TLS = &info.State
		}
	}
	return r.WithContext(ctx)
}

// A reply is what would go over HTTP.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *reply) Header() http.Header         { return w.header }
func (w *reply) Write(p []byte) (int, error) { return w.body.Write(p) }
func (w *reply) WriteHeader(status int)      { w.status = cmp.Or(w.status, status) }

// sendHeader adds those headers to the call's header metadata that mean something to
// a client of gRPC.
func (w *reply) sendHeader(ctx context.Context) {
	md := make(metadata.MD)
	for _, name := range [...]string{"Www-Authenticate", "Dpop-Nonce"} {
		if values := w.header[name]; len(values) > 0 {
			md.Append(name, values...)
		}
	}
	if len(md) > 0 {
		// It fails where there is no connection, as in tests that call an
		// interceptor: the status still tells.
		_ = grpc.SetHeader(ctx, md)
	}
}

// refusal returns the status for the call of ctx.
func (w *reply) refusal(ctx context.Context) error {
	code := codes.PermissionDenied // also for what says nothing, and what says 200
	switch w.status {
	case http.StatusBadRequest, http.StatusUnauthorized:
		code = codes.Unauthenticated
	case http.StatusNotFound:
		code = codes.NotFound
	case http.StatusTooManyRequests:
		code = codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		if ctx.Err() != nil { // nobody waited for the end
			return status.FromContextError(ctx.Err()).Err()
		}
		code = codes.Unavailable
	default:
		if w.status >= 500 {
			code = codes.Internal
		}
	}
	// bearer.DefaultErrorHandler writes it; another may write what it likes, and
	// then the code and the challenge have to do.
	var body struct {
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(w.body.Bytes(), &body)
	s := status.New(code, cmp.Or(body.Description, "the call is refused"))
	if seconds, err := strconv.Atoi(w.header.Get("Retry-After")); err == nil {
		retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Duration(seconds) * time.Second)}
		if detailed, err := s.WithDetails(retry); err == nil {
			s = detailed
		}
	}
	return s.Err()
}
