package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// connections is how many clients wait for their answers at the same time. Few,
// so that the latencies are not those of a queue only.
const connections = 8

// runLoad puts a server behind each library under load and writes a table.
func runLoad(w io.Writer, d time.Duration) error {
	return load(w, d, []int{1, 100, 10_000})
}

// load measures for d each, in turns of a tenth of it, how many requests a second
// the server answers that carry one of 1, 100 or so distinct tokens.
func load(w io.Writer, d time.Duration, distinct []int) error {
	const turns = 10
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t := newTrial(workload{algorithm: "RS256", claims: auth0})
	tokens := mint(t, slices.Max(distinct))

	var servers []*server
	for _, c := range []contender{floor, ours, golangJWT, auth0Middleware} {
		p, err := c.protect(ctx, t)
		if err != nil {
			return err
		}
		h := p.api(t)
		if !c.blind {
			if err := conform(h, c, t); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		s, err := newServer(c, h)
		if err != nil {
			return err
		}
		defer s.Close()
		servers = append(servers, s)
	}

	fmt.Fprintf(w, "%s, %s/%s, %d CPUs for server and clients together, %d connections, RS256, %d B per token.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), connections, len(tokens[0]))
	fmt.Fprintln(w, "| distinct tokens | library | requests/s | p50 | p99 |\n|---:|---|---:|---:|---:|")
	for _, n := range distinct {
		texts := make([][]byte, n)
		for i, token := range tokens[:n] {
			texts[i] = []byte("GET /api/messages HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer " + token + "\r\n\r\n")
		}
		latencies := make([][]time.Duration, len(servers))
		for _, s := range servers {
			// Twice each: whoever keeps tokens has then had the chance to.
			for range 2 {
				for _, r := range t.all(tokens[:n]) {
					s.Handler.ServeHTTP(&tally{header: make(http.Header)}, r)
				}
			}
		}
		for range turns {
			for i, s := range servers {
				all, err := s.strain(texts, d/turns)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				latencies[i] = append(latencies[i], all...)
			}
		}
		for i, s := range servers {
			fmt.Fprintf(w, "| %d | %s | %.0f | %.2f ms | %.2f ms |\n", n, strings.TrimSpace(s.name+" "+s.version()),
				float64(len(latencies[i]))/d.Seconds(),
				quantile(latencies[i], 0.50).Seconds()*1000,
				quantile(latencies[i], 0.99).Seconds()*1000)
		}
	}
	return nil
}

// A server is a contender's API on a port of the loopback interface.
type server struct {
	contender
	http.Server
	address string
}

func newServer(c contender, h http.Handler) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{contender: c, address: l.Addr().String()}
	s.Handler = h
	go s.Serve(l)
	return s, nil
}

// strain sends requests out of texts, picked at random, for the time d and
// returns how long each took.
func (s *server) strain(texts [][]byte, d time.Duration) ([]time.Duration, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards the two below
		all  []time.Duration
		errs []error
	)
	end := time.Now().Add(d)
	for range connections {
		wg.Go(func() {
			latencies, err := s.client(texts, end)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, latencies...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// client keeps one connection busy until end. It is not an http.Client since
// that costs more than the server does, on the same cores.
func (s *server) client(texts [][]byte, end time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var latencies []time.Duration
	for {
		start := time.Now()
		if start.After(end) {
			return latencies, nil
		}
		if _, err := conn.Write(texts[rand.IntN(len(texts))]); err != nil {
			return nil, err
		}
		if err := readNoContent(in); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(start))
	}
}

// readNoContent reads a response and returns an error unless its status is 204,
// in which case it has no body.
func readNoContent(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if string(status) != "HTTP/1.1 204 No Content\r\n" {
		return fmt.Errorf("response %q", status)
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == len("\r\n") {
			return nil
		}
	}
}
