"""Side-by-side measurements of asyncload and other load generators on one machine; see README.md."""
