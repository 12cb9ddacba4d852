WORD = "beside the script"
