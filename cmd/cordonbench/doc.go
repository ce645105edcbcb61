// Command cordonbench measures Cordon beside what PostgreSQL alone can do.
//
// It starts a PostgreSQL of its own with full durability, takes ceilings on it
// (bare statements, and a thin server around them), and runs Cordon as a
// process of its own on the same PostgreSQL, in each partition mode. Rates on
// one machine drift; CPU per operation and ratios within one run do not. So
// every block of figures stands between two readings of the ceilings, and the
// goals are ratios. See docs/performance.md.
package main
