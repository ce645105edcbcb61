package ucum

// Atoms are the units of the table.
var Atoms = atoms
