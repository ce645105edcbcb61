// Command cordon is the FHIR server and everything that is done to it.
//
//	cordon dev        a server with all it needs, for a laptop
//	cordon serve      the data plane: FHIR and tokens
//	cordon control    the control plane: tenants and clients
//	cordon migrate    the databases, as their owner
//	cordon operator   who may use the control plane, as their owner
//	cordon tenant     make, list, show, set, suspend and resume tenants
//	cordon client     register, list, disable and enable clients of a tenant
//	cordon user       let users of a tenant log in
//	cordon idp        let users log in by identity providers
//	cordon issuer     let a tenant trust an authorization server elsewhere
//	cordon policy     who may see and do what, why, and what if
//	cordon index      show the search index, and make it again
//	cordon package    install, list and remove packages of definitions
//	cordon alert      list, show, acknowledge and close alerts; set webhooks for them
//	cordon break-glass list, show and end what staff see in an emergency
//	cordon audit      show that an audit trail is as it was signed, give it away, and hold it
//	cordon breakout   try to get from one tenant of a server into another
//	cordon evidence   write and verify evidence of where data is and who can reach it
//	cordon token      earn an access token
//	cordon load       send Bundles and NDJSON
//	cordon export     write the files of a bulk export
//	cordon explain    tell how a search would be answered
//	cordon healthcheck, version
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type commands struct {
	Dev         devCommand         `cmd:"" help:"Start a server with a PostgreSQL of its own, for trying and developing."`
	Serve       serveCommand       `cmd:"" help:"Serve FHIR and tokens: the data plane."`
	Control     controlCommand     `cmd:"" help:"Serve the control API: the control plane."`
	Migrate     migrateCommand     `cmd:"" help:"Make or change the databases, as their owner."`
	Operator    operatorCommand    `cmd:"" help:"Decide who may use the control API, as the owner of the databases."`
	Tenant      tenantCommand      `cmd:"" help:"Make, list, show, set, suspend and resume tenants."`
	Client      clientCommand      `cmd:"" help:"Register, list, disable and enable clients of a tenant."`
	Policy      policyCommand      `cmd:"" help:"Show, check, propose, approve and compare access policies."`
	User        userCommand        `cmd:"" help:"Add, list, disable and enable users of a tenant, and change passwords."`
	IDP         idpCommand         `cmd:"" name:"idp" help:"Add, list and remove identity providers of a tenant, and choose whom they let in."`
	Issuer      issuerCommand      `cmd:"" help:"Set, show and remove the authorization server elsewhere that a tenant trusts."`
	Index       indexCommand       `cmd:"" help:"Show and make again the search index of a tenant."`
	Package     packageCommand     `cmd:"" help:"Install, list and remove packages of definitions of a tenant."`
	Alert       alertCommand       `cmd:"" help:"List, show, acknowledge and close alerts."`
	BreakGlass  breakGlassCommand  `cmd:"" help:"List, show and end what staff were let see of a patient in an emergency."`
	Audit       auditCommand       `cmd:"" help:"Verify, export and list audit trails, and place legal holds on them."`
	Breakout    breakoutCommand    `cmd:"" help:"Try to get from one tenant of a running server into another, over HTTP alone."`
	Evidence    evidenceCommand    `cmd:"" help:"Write evidence of where the data of a tenant is, who can reach it and how that is proven; or verify it."`
	Token       tokenCommand       `cmd:"" help:"Print an access token, earned at the token endpoint."`
	Load        loadCommand        `cmd:"" help:"Send Bundles and NDJSON to a tenant."`
	Import      importCommand      `cmd:"" help:"Store what is in NDJSON files by a bulk import."`
	Export      exportCommand      `cmd:"" help:"Write the files of a bulk export to a directory."`
	Purge       purgeCommand       `cmd:"" help:"Remove for good what a tenant has of a patient, as two operators agree."`
	Explain     explainCommand     `cmd:"" help:"Tell how a search would be answered, without its values."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a server whether it is ready; for containers."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

// A console is where a command speaks.
type console struct{ out, err io.Writer }

// run does what args say and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exited := -1
	parser, err := kong.New(&commands{},
		kong.Name("cordon"),
		kong.Description("A FHIR R4 server for many tenants, which can prove its boundaries."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(console{stdout, stderr}),
	)
	if err != nil {
		panic(err) // the tags above are wrong
	}
	command, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help has been answered
	}
	if err == nil {
		err = command.Run()
	}
	var faults *faultsError
	if errors.As(err, &faults) {
		return 1 // they have been printed
	}
	var cannot cannotRun
	if errors.As(err, &cannot) {
		fmt.Fprintf(stderr, "cordon: %v\n", err)
		return 2
	}
	if err != nil {
		fmt.Fprintf(stderr, "cordon: %v\n", err)
		return 1
	}
	return 0
}

type versionCommand struct{}

func (versionCommand) Run(c console) error {
	_, err := fmt.Fprintln(c.out, "cordon", version())
	return err
}

// version returns what was built: the module's version, else the revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}
