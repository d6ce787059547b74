"""A package, so that the world of its tests ends with the last of them (scope "package")."""
