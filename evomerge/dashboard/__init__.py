"""The pages of `evomerge dashboard`: all runs of a folder, live, read-only.

- `folder.py`: which runs there are; links are not followed
- `run_list.py`: one line of each, read again when its file changed
- `rows.py`: which lines are shown, in which order, in which words
- `live.py`: a page about runs, drawn again when they change, seldom enough to disturb nobody
- `background.py`: the threads in which files are read and figures drawn
- `guard.py`: who is answered, and with which headers
- `app.py`: addresses to pages
- `server.py`: binding, the token, the end
"""
