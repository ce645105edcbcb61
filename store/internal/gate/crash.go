package gate

// A crashPoint is a moment at which to lose the process would be worst. Tests
// build the program with the tag crashpoints and kill it there.
type crashPoint string

const (
	afterBegin   crashPoint = "after BEGIN"   // locks are held, nothing is written
	beforeCommit crashPoint = "before COMMIT" // nothing is sent
	afterCommit  crashPoint = "after COMMIT"  // stored, and the client does not know
	beforeAudit  crashPoint = "before audit"  // read, and the trail does not know
	afterAudit   crashPoint = "after audit"   // in the trail, and the client has nothing
	afterEntry   crashPoint = "after entry"   // the trail has what is then done elsewhere, or answered
)
