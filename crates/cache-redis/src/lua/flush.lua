-- A new epoch because somebody asked for it. The event is its first entry, so that reason and audit survive.
bump('flush')
return publish(append())
