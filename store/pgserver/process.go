package pgserver

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// A process is a running server.
type process struct {
	pid  int
	cmd  *exec.Cmd
	done chan struct{}
}

// launch starts cmd on a thread that lives as long as it: Linux ends a child
// with the thread that began it, not with the process.
func launch(cmd *exec.Cmd) (*process, error) {
	dieWithParent(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// How it ended is in its log.
			_ = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// signal sends sig; that the process may have ended is what done tells.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// killAll ends the server and its children at once. They are a process group
// of their own.
func (p *process) killAll() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }
