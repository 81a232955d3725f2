"""How the processes of a synchronous job stay equal: numbers gathered, drift found."""
