//! THE WRITE DOOR: parse, validate, authorise, route, append. It never stores anything itself.
