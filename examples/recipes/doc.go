// Package recipes has the code of docs/recipes, with its tests. It is there to be
// copied, not to be imported.
package recipes
