//! Settings in two steps: what the operator wrote, then what the program means. It never reads certificates or opens data.
