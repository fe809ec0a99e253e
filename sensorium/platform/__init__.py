"""Behind the edge: what is kept (SQL, files), who may use it, how much, and what they have used."""
