package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeTables writes the figures as Markdown, a table for each group of workloads.
func (all results) writeTables(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, medians of %d rounds. In each cell: CPU time · allocations.\n", all.Date, all.where(), all.Rounds)
	var groups []string
	for _, r := range all.Workloads {
		if !slices.Contains(groups, r.Group) {
			groups = append(groups, r.Group)
		}
	}
	for _, group := range groups {
		of := slices.DeleteFunc(slices.Clone(all.Workloads), func(r result) bool { return r.Group != group })
		fmt.Fprintln(w)
		if group == additions {
			writeAdditions(w, of)
			continue
		}
		writeGroup(w, group, of)
	}
}

// where says what all was measured on.
func (all results) where() string {
	return fmt.Sprintf("%s, %s, %d × %s", all.Go, all.Platform, all.CPUs, cmp.Or(all.Machine, "CPU"))
}

// writeGroup writes a table of libraries and workloads. A library that could not
// be measured, or was not, has an empty cell.
func writeGroup(w io.Writer, group string, of []result) {
	text := func(f figure) string { return fmt.Sprintf("%s · %.0f", multiple(f.Ratio), f.Allocs) }
	if group == refusals {
		text = func(f figure) string { return fmt.Sprintf("%.2f · %.0f", f.NS/1000, f.Allocs) }
	}
	writeRow := func(name string, cell func(result) string) {
		fmt.Fprintf(w, "| %s |", name)
		for _, r := range of {
			fmt.Fprintf(w, " %s |", cell(r))
		}
		fmt.Fprintln(w)
	}
	writeRow(group, func(r result) string { return r.Workload })
	fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(of)))
	longest := slices.MaxFunc(of, func(a, b result) int { return len(a.Contenders) - len(b.Contenders) })
	for _, c := range longest.Contenders {
		writeRow(strings.TrimSpace(c.Name+" "+c.Version), func(r result) string {
			i := slices.IndexFunc(r.Contenders, func(f figure) bool { return f.Name == c.Name })
			if i < 0 || r.Contenders[i].Problem != "" {
				return ""
			}
			return text(r.Contenders[i])
		})
	}
	writeRow("the yardstick itself", func(r result) string {
		return fmt.Sprintf("%s %.3g µs · %.0f", r.Yardstick.Name, r.Yardstick.NS/1000, r.Yardstick.Allocs)
	})
	if group != refusals {
		writeRow("bytes in a token", func(r result) string { return fmt.Sprint(r.TokenBytes) })
	}
}

// writeAdditions writes a table of what this library does beside the same without it.
func writeAdditions(w io.Writer, of []result) {
	fmt.Fprintf(w, "| %s | | adds |\n|---|---:|---:|\n", additions)
	for _, r := range of {
		for _, f := range r.Contenders {
			fmt.Fprintf(w, "| %s | %s · %.0f | %.0f ns · %.0f |\n", r.Workload, multiple(f.Ratio), f.Allocs, f.Added, f.Allocs-r.Yardstick.Allocs)
		}
	}
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
