package pgserver

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the server shut down cleanly when we end, also when we
// are killed.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr.Pdeathsig = syscall.SIGINT }
