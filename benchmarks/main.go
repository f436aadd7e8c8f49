// Command benchmarks measures package bearer beside its peers.
//
//	go run . compare    CPU time and allocations per request; writes results.json
//	go run . load       requests per second and latencies over loopback HTTP
//	go run . publish    puts results.json into chart.svg, README.md and ../README.md
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
	file := flags.String("json", "results.json", "the `file` that compare writes and publish reads")
	rounds := flags.Int("rounds", 31, "how often compare measures each library for each workload")
	duration := flags.Duration("time", 3*time.Second, "how long load keeps each library busy for each workload")
	flags.Parse(os.Args[2:])

	var err error
	switch command := flags.Name(); command {
	case "compare":
		err = runCompare(os.Stdout, *file, *rounds)
	case "load":
		err = runLoad(os.Stdout, *duration)
	case "publish":
		err = runPublish(*file)
	default:
		err = fmt.Errorf("no command %q", command)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func runCompare(w io.Writer, file string, rounds int) error {
	all, err := compare(workloads, extent{rounds: rounds, tokens: 500, slice: 30 * time.Millisecond})
	if err != nil {
		return err
	}
	all.writeTables(w)
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func runPublish(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var all results
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return publish(all)
}
