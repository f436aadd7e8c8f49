// Command benchmarks measures package bearer beside its peers.
//
//	go run . compare    CPU time and allocations per request
//	go run . load       requests per second and latencies over loopback HTTP
//	go run . publish    compares, and puts the figures into results.json, chart.svg,
//	                    README.md and ../README.md
//
// README.md says what is measured, and how.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: go run . compare|load|publish [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	from := flags.String("from", "", "a `file` with the results of a run, for publish instead of a new one")
	rounds := flags.Int("rounds", 21, "how often each library is measured for each workload")
	duration := flags.Duration("time", 3*time.Second, "how long load keeps each library busy for each workload")
	flags.Parse(os.Args[2:])

	var err error
	switch command := flags.Name(); command {
	case "compare":
		_, err = runCompare(os.Stdout, *rounds)
	case "load":
		err = runLoad(os.Stdout, *duration)
	case "publish":
		err = runPublish(os.Stdout, *from, *rounds)
	default:
		err = fmt.Errorf("no command %q", command)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func runCompare(w io.Writer, rounds int) (results, error) {
	all, err := compare(workloads, extent{rounds: rounds, tokens: 500, twice: 4000, distinct: 10_000, slice: 30 * time.Millisecond})
	if err == nil {
		all.writeTables(w)
	}
	return all, err
}

func runPublish(w io.Writer, from string, rounds int) error {
	if from == "" {
		all, err := runCompare(w, rounds)
		if err != nil {
			return err
		}
		return publish(all)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var all results
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return publish(all)
}
