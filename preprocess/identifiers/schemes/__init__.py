"""The schemes of identifiers, one file each. `scheme` is their interface, `named` finds one by its name."""
