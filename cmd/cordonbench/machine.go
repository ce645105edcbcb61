package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of CPU times in /proc. Linux shows them to programs in
// hundredths of a second, whatever its own clock does.
const tick = 10 * time.Millisecond

// stat is what we use of /proc/PID/stat.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
type stat struct {
	parent int
	cpu    time.Duration // user and system, with that of children that were waited for
}

// parseStat reads a line of /proc/PID/stat. The name of the program is in
// parentheses and may hold anything, also spaces and parentheses.
func parseStat(line []byte) (stat, error) {
	i := bytes.LastIndexByte(line, ')')
	if i < 0 {
		return stat{}, errors.New("malformed stat: no program name")
	}
	fields := bytes.Fields(line[i+1:])
	// From here the state is field 0: ppid is 1, utime to cstime are 11 to 14.
	if len(fields) < 15 {
		return stat{}, errors.New("malformed stat: too few fields")
	}
	var s stat
	var err error
	if s.parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return stat{}, fmt.Errorf("malformed stat: %w", err)
	}
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("malformed stat: %w", err)
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// A cpuTimes is CPU time used so far: by processes that we watch, and by the
// whole machine.
type cpuTimes struct {
	server, database time.Duration
	own              time.Duration // this process: the load generator
	busy             time.Duration // the machine, all that is not idle
}

func (a cpuTimes) sub(b cpuTimes) cpuTimes {
	return cpuTimes{a.server - b.server, a.database - b.database, a.own - b.own, a.busy - b.busy}
}

// readCPU reads the CPU time of the server, of PostgreSQL with all its
// processes, of this process and of the machine. A server of 0 is none.
func readCPU(server, postmaster int) (cpuTimes, error) {
	stats, err := processes()
	if err != nil {
		return cpuTimes{}, err
	}
	times := cpuTimes{database: tree(stats, postmaster), own: stats[os.Getpid()].cpu}
	if server != 0 {
		times.server = tree(stats, server)
	}
	times.busy, err = machineBusy()
	return times, err
}

// processes reads the stat of every process. One that ends meanwhile is left
// out: its parent has its time.
func processes() (map[int]stat, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		return nil, errors.New("reading CPU times: no /proc; this needs Linux")
	}
	stats := make(map[int]stat, len(dirs))
	for _, dir := range dirs {
		line, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		s, err := parseStat(line)
		if err != nil {
			return nil, err
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, fmt.Errorf("reading CPU times: %w", err)
		}
		stats[pid] = s
	}
	return stats, nil
}

// tree returns the CPU time of a process and of all that descend from it.
func tree(stats map[int]stat, root int) time.Duration {
	total := stats[root].cpu
	for pid, s := range stats {
		if s.parent == root && pid != root {
			total += tree(stats, pid)
		}
	}
	return total
}

// machineBusy returns how long the CPUs of the machine have been at work.
func machineBusy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("reading CPU times: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 8 {
		return 0, errors.New("reading CPU times: malformed /proc/stat")
	}
	var busy time.Duration
	for i, f := range fields[1:8] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading CPU times: %w", err)
		}
		if i != 3 && i != 4 { // idle, iowait
			busy += time.Duration(n) * tick
		}
	}
	return busy, nil
}

// peakMemory returns the most resident memory that the process has had, in
// bytes.
func peakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	for line := range bytes.Lines(text) {
		value, ok := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(string(bytes.Fields(value)[0]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading memory: %w", err)
		}
		return kb << 10, nil
	}
	return 0, errors.New("reading memory: no VmHWM")
}
