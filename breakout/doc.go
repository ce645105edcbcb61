// Package breakout tries to get from one tenant of a running server into another,
// over HTTP alone, and says what came of it.
//
// A Target says where the tenants are and which clients there are. Open gives
// each tenant records under the same ids, with words that exist nowhere else;
// Run makes every attack for every ordered pair of tenants, holds the answers
// and what is left behind against conditions, and returns a Sheet. Attacks are
// data: see attack.go for their form, and the file of each group.
package breakout
