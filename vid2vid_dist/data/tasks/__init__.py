"""One file per data task: what is turned into video. `registry` names them; nothing else knows one by name."""
