package main

import (
	"fmt"
	"io"
	"strings"
)

// writeTables writes the figures as Markdown: CPU time, then allocations.
func (all results) writeTables(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d CPUs, medians of %d rounds.\n\n", all.Go, all.Platform, all.CPUs, all.Rounds)
	all.writeTable(w, "CPU time, × yardstick",
		func(f figure) string { return multiple(f.Ratio) },
		func(f figure) string { return fmt.Sprintf("%s %.3g µs", f.Name, f.NS/1000) })
	fmt.Fprintln(w)
	allocs := func(f figure) string { return fmt.Sprintf("%.0f", f.Allocs) }
	all.writeTable(w, "allocations", allocs, allocs)
}

// writeTable writes a table of libraries and workloads. A library that could not
// be measured has an empty cell.
func (all results) writeTable(w io.Writer, title string, cell, yardstick func(figure) string) {
	writeRow := func(name string, text func(result) string) {
		fmt.Fprintf(w, "| %s |", name)
		for _, r := range all.Workloads {
			fmt.Fprintf(w, " %s |", text(r))
		}
		fmt.Fprintln(w)
	}
	writeRow(title, func(r result) string { return r.Workload })
	fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(all.Workloads)))
	for i, c := range all.Workloads[0].Contenders {
		writeRow(strings.TrimSpace(c.Name+" "+c.Version), func(r result) string {
			f := r.Contenders[i]
			if f.Problem != "" {
				return ""
			}
			return cell(f)
		})
	}
	writeRow("the yardstick itself", func(r result) string { return yardstick(r.Yardstick) })
	if title == "allocations" {
		return
	}
	writeRow("bytes in a token", func(r result) string { return fmt.Sprint(r.TokenBytes) })
}

// multiple writes x with three digits or so: 1.05, 12.3, 240.
func multiple(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
